// Keyboard shortcuts, overlay opacity and magnifier. Every page also works without this script.
"use strict";

const KEYS_OFF = "fundus-keys-off";

function pick(selector) { return document.querySelector(selector); }

function setUpView() {
  const slider = pick("#opacity");
  const over = pick(".over");
  if (slider && over) {
    const show = () => { over.style.opacity = slider.value / 100; };
    slider.addEventListener("input", show);
    show();
  }
  const zoom = pick("#zoom");
  const frame = pick(".frame");
  if (zoom && frame) {
    zoom.addEventListener("click", () => {
      const on = frame.classList.toggle("magnified");
      zoom.setAttribute("aria-pressed", String(on));
      // Centre the magnified image.
      frame.scrollLeft = on ? (frame.scrollWidth - frame.clientWidth) / 2 : 0;
      frame.scrollTop = on ? (frame.scrollHeight - frame.clientHeight) / 2 : 0;
    });
  }
  const photograph = pick(".photograph");
  if (photograph) {
    const missing = () => { frame.hidden = true; pick("#no-picture").hidden = false; pick(".tools").hidden = true; showReason(photograph); };
    photograph.addEventListener("error", missing);
    if (photograph.complete && photograph.naturalWidth === 0) missing();
  }
  if (over) {
    // An overlay of three panels does not match the photograph: show it separately.
    const checkShape = () => { if (Math.abs(over.naturalWidth / over.naturalHeight - 1) > 0.1) showSeparately(over); };
    over.addEventListener("load", checkShape);
    if (over.complete && over.naturalWidth) checkShape();
  }
}

function showSeparately(over) {
  const container = pick(".alone");
  over.removeAttribute("style");
  over.alt = "Overlay";
  container.append(over);
  container.hidden = false;
  pick(".slide").hidden = true;
}

// The response that was not an image is an error page: show its message.
async function showReason(photograph) {
  const over = pick(".over");
  if (over) { showSeparately(over); pick(".instead").hidden = false; }
  const response = await fetch(photograph.src);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const message = page.querySelector("main h1");
  if (message) pick("#no-picture .why").textContent = message.textContent;
}

function setUpDialog() {
  const dialog = pick("#keys");
  if (!dialog) return;
  const box = pick("#keys-on");
  box.checked = localStorage.getItem(KEYS_OFF) === null;
  box.addEventListener("change", () => {
    if (box.checked) localStorage.removeItem(KEYS_OFF); else localStorage.setItem(KEYS_OFF, "yes");
  });
  pick("#show-keys").addEventListener("click", () => dialog.showModal());
}

function moveInList(step) {
  const links = [...document.querySelectorAll(".row-link")];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  links[Math.min(Math.max(at + step, 0), links.length - 1)].focus();
}

function go(rel, step) {
  const link = pick(`.trail a[rel=${rel}]`);
  if (link) link.click(); else moveInList(step);
}

const SHORTCUTS = {
  j: () => go("next", 1),
  k: () => go("prev", -1),
  n: () => { const form = pick("#next"); if (form) form.requestSubmit(); },
  o: () => {
    const slider = pick("#opacity");
    if (slider) { slider.value = slider.value > 0 ? 0 : 100; slider.dispatchEvent(new Event("input")); }
  },
  z: () => { const zoom = pick("#zoom"); if (zoom) zoom.click(); },
  r: () => { const reason = pick("#decide textarea"); if (reason) reason.focus(); },
  "?": () => { const dialog = pick("#keys"); if (dialog) dialog.showModal(); },
};

function chooseGrade(value) {
  const radio = pick(`#decide input[name=grade][value="${value}"]`);
  if (radio) { radio.checked = true; radio.focus(); }
}

function onKey(event) {
  const target = event.target;
  if (event.key === "Enter" && event.ctrlKey && target.matches("#decide textarea")) {
    event.preventDefault();
    target.form.requestSubmit(target.form.querySelector("button"));
    return;
  }
  const types = target.matches("textarea, select, input:not([type=radio]):not([type=range]):not([type=checkbox])");
  if (event.ctrlKey || event.metaKey || event.altKey || types || pick("dialog[open]")) return;
  if (localStorage.getItem(KEYS_OFF) !== null) return;
  if (/^[0-4]$/.test(event.key)) chooseGrade(event.key);
  else if (event.key === "u") chooseGrade("ungradable");
  else if (Object.hasOwn(SHORTCUTS, event.key)) SHORTCUTS[event.key]();
  else return;
  event.preventDefault();
}

// Require a reason in the browser; the server checks it again.
function requireReason() {
  const form = pick("#decide");
  if (!form) return;
  const reason = form.querySelector("textarea");
  const shown = form.elements.shown.value.split(":");
  const model = shown[0] === "graded" ? shown[1] : "ungradable";
  const always = pick("#yours").textContent.includes("arbitration");
  const validate = () => {
    const chosen = form.querySelector("input[name=grade]:checked");
    const needed = chosen && (always || chosen.value !== model) && !reason.value.trim();
    reason.setCustomValidity(needed ? "A reason is required." : "");
  };
  form.addEventListener("input", validate);
  form.addEventListener("click", validate, true);
  document.addEventListener("keydown", validate);
  validate();
}

document.addEventListener("keydown", onKey);
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 409) location.reload();
});
setUpView();
setUpDialog();
requireReason();
