// Keys, the blend of photograph and overlay, and the magnifier. Without this script every page still works.
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
      // To the middle of what was seen.
      frame.scrollLeft = on ? (frame.scrollWidth - frame.clientWidth) / 2 : 0;
      frame.scrollTop = on ? (frame.scrollHeight - frame.clientHeight) / 2 : 0;
    });
  }
  const photograph = pick(".photograph");
  if (photograph) {
    const missing = () => { frame.hidden = true; pick("#no-picture").hidden = false; pick(".tools").hidden = true; sayWhy(photograph); };
    photograph.addEventListener("error", missing);
    if (photograph.complete && photograph.naturalWidth === 0) missing();
  }
  if (over) {
    // Photograph, preprocessed image and overlay side by side cannot lie over the photograph.
    const judge = () => { if (Math.abs(over.naturalWidth / over.naturalHeight - 1) > 0.1) showAlone(over); };
    over.addEventListener("load", judge);
    if (over.complete && over.naturalWidth) judge();
  }
}

function showAlone(over) {
  const place = pick(".alone");
  over.removeAttribute("style");
  over.alt = "Overlay";
  place.append(over);
  place.hidden = false;
  pick(".slide").hidden = true;
}

// The server's sentence stands in the answer that was no picture.
async function sayWhy(photograph) {
  const over = pick(".over");
  if (over) { showAlone(over); pick(".instead").hidden = false; }
  const answer = await fetch(photograph.src);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const sentence = page.querySelector("main h1");
  if (sentence) pick("#no-picture .why").textContent = sentence.textContent;
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

const DEEDS = {
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
  else if (Object.hasOwn(DEEDS, event.key)) DEEDS[event.key]();
  else return;
  event.preventDefault();
}

// A reason that is needed is asked for here; the server asks again.
function askForReason() {
  const form = pick("#decide");
  if (!form) return;
  const reason = form.querySelector("textarea");
  const shown = form.elements.shown.value.split(":");
  const model = shown[0] === "graded" ? shown[1] : "ungradable";
  const always = pick("#yours").textContent.includes("arbitration");
  const judge = () => {
    const chosen = form.querySelector("input[name=grade]:checked");
    const needed = chosen && (always || chosen.value !== model) && !reason.value.trim();
    reason.setCustomValidity(needed ? "Say why." : "");
  };
  form.addEventListener("input", judge);
  form.addEventListener("click", judge, true);
  document.addEventListener("keydown", judge);
  judge();
}

document.addEventListener("keydown", onKey);
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 409) location.reload();
});
setUpView();
setUpDialog();
askForReason();
