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
  if (!radio) return;
  radio.checked = true;
  radio.focus();
  radio.dispatchEvent(new Event("input", { bubbles: true }));
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
  l: () => { const last = pick("a[rel=last]"); if (last) last.click(); },
  Backspace: () => { const undo = pick("#undo"); if (undo) undo.requestSubmit(); },
  "?": () => { const dialog = pick("#keys"); if (dialog) dialog.showModal(); },
};
document.querySelectorAll("#decide .findings input").forEach((box, index) => {
  SHORTCUTS[index + 6] = () => { box.checked = !box.checked; };
});
// Where a grade can be given, the digits are grades.
if (pick("#decide")) for (const grade of "01234") SHORTCUTS[grade] = () => chooseGrade(grade);
else if (viewer.a) SHORTCUTS[1] = viewer.a;

function onKey(event) {
  const target = event.target;
  const form = pick("#decide"), isFree = target === document.body || target.matches("#decide input, input[type=range], main, .pane");
  if (form && event.key === "Enter" && ((event.ctrlKey && target.matches("#decide textarea")) || isFree)) {
    event.preventDefault();
    form.requestSubmit(form.querySelector("button"));
    return;
  }
  const types = target.matches("textarea, select, input:not([type=radio]):not([type=range]):not([type=checkbox])");
  if (event.ctrlKey || event.metaKey || event.altKey || types || pick("dialog[open]")) return;
  if (localStorage.getItem(KEYS_OFF) !== null || !Object.hasOwn(SHORTCUTS, event.key)) return;
  SHORTCUTS[event.key]();
  event.preventDefault();
}

/** What prevents that the form is saved, and where to repair it; null if nothing does. The server checks it again. */
function findMissing(form) {
  const chosen = form.querySelector("input[name=grade]:checked");
  if (!chosen) return ["Select a grade: 0 to 4, or u for ungradable.", form.querySelector("input[name=grade]")];
  const reason = form.querySelector("textarea"), free = form.dataset.reasonUnless;
  if (reason.value.trim() || free === "any" || free === chosen.value) return null;
  return [free ? "Give a reason: your grade differs from the model's result." : "Give a reason for the arbitration.", reason];
}

function setUpForm() {
  const form = pick("#decide");
  if (!form) return;
  form.noValidate = true;
  const message = form.querySelector(".missing");
  form.addEventListener("submit", (event) => {
    const missing = findMissing(form);
    message.hidden = !missing;
    if (!missing) return;
    event.preventDefault();
    message.textContent = missing[0];
    missing[1].focus();
  });
  form.addEventListener("input", () => { message.hidden = true; });
}

document.addEventListener("keydown", onKey);
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 409) location.reload();
});
setUpDialog();
setUpForm();
