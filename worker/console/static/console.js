// Keyboard shortcuts and the review form. Every page also works without this script.
import { setUpViewer } from "./viewer.js";

const KEYS_OFF = "fundus-keys-off";

function pick(selector) { return document.querySelector(selector); }

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

function chooseGrade(value) {
  const radio = pick(`#decide input[name=grade][value="${value}"]`);
  if (radio) { radio.checked = true; radio.focus(); }
}

const viewer = setUpViewer();
const SHORTCUTS = {
  ...viewer,
  j: () => go("next", 1),
  k: () => go("prev", -1),
  n: () => { const form = pick("#next"); if (form) form.requestSubmit(); },
  r: () => { const reason = pick("#decide textarea"); if (reason) reason.focus(); },
  "/": () => { const search = pick("#search"); if (search) search.focus(); },
  u: () => chooseGrade("ungradable"),
  "?": () => { const dialog = pick("#keys"); if (dialog) dialog.showModal(); },
};
// Where a grade can be given, the digits are grades.
if (pick("#decide")) for (const grade of "01234") SHORTCUTS[grade] = () => chooseGrade(grade);
else if (viewer.a) SHORTCUTS[1] = viewer.a;

function onKey(event) {
  const target = event.target;
  if (event.key === "Enter" && event.ctrlKey && target.matches("#decide textarea")) {
    event.preventDefault();
    target.form.requestSubmit(target.form.querySelector("button"));
    return;
  }
  const types = target.matches("textarea, select, input:not([type=radio]):not([type=range]):not([type=checkbox])");
  if (event.ctrlKey || event.metaKey || event.altKey || types || pick("dialog[open]")) return;
  if (localStorage.getItem(KEYS_OFF) !== null || !Object.hasOwn(SHORTCUTS, event.key)) return;
  SHORTCUTS[event.key]();
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
setUpDialog();
requireReason();
