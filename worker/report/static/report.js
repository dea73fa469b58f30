"use strict";
(() => {
const reportData = JSON.parse(document.getElementById("report-data").textContent);
const addresses = JSON.parse(document.getElementById("addresses").textContent);
const columns = reportData.columns;
const IMAGES_PER_PAGE = 24, PATIENTS_PER_PAGE = 100;
const MOST_PARTS = 32;  // least recently used parts beyond this, about 40 MB, are dropped

// --- parts: embedded in the page, or loaded on demand ---

const parts = new Map(), pending = new Map();

window.fundusPart = (name, generation, rows) => {
  const part = pending.get(name);
  pending.delete(name);
  if (part && generation === reportData.generation) part.resolve(rows);
  else if (part) part.reject(new Error("The report has been updated: reload this page."));
};

function loadPart(kind, number) {
  const name = `${kind}-${number}`;
  const part = parts.get(name) ?? readPart(name);
  parts.delete(name);
  parts.set(name, part);
  if (parts.size > MOST_PARTS) parts.delete(parts.keys().next().value);
  part.catch(() => parts.delete(name));
  return part;
}

function readPart(name) {
  const embedded = document.getElementById(name);
  if (embedded) return Promise.resolve(JSON.parse(embedded.textContent));
  const file = `${name}.js`;
  return new Promise((resolve, reject) => {
    pending.set(name, { resolve, reject });
    const missing = () => {
      if (pending.delete(name)) reject(new Error(`Cannot load ${file}: the file is missing or the link has expired.`));
    };
    const script = make("script", { src: addresses[file] ?? file });
    script.addEventListener("load", () => { script.remove(); missing(); });
    script.addEventListener("error", () => { script.remove(); missing(); });
    document.head.append(script);
  });
}

// --- elements ---

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
const number = (value) => value.toLocaleString("en");
const picture = (data, name) => make("img", { src: `data:image/webp;base64,${data}`, alt: "", class: name });
const badge = (grade, byModel) => make("span", { class: `badge grade-${grade}` }, `${grade} `,
  make("span", { class: "word" }, grade === 0 && byModel ? reportData.nothingFound : reportData.gradeLabels[grade]));
const attention = (label) => make("span", { class: "badge attention" }, label);

function address(view, query, changes) {
  const changed = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) value ? changed.set(name, value) : changed.delete(name);
  return `#${view}${changed.size ? `?${changed}` : ""}`;
}

function fillPager(pager, view, query, page, pages) {
  pager.replaceChildren();
  if (pages < 2) return;
  const link = (label, target, rel) => page === target ? make("span", { class: "quiet" }, label)
    : make("a", { href: address(view, query, { page: target, at: "" }), rel }, label);
  const box = make("input", { type: "number", min: 1, max: pages, value: page, "aria-label": `Page, 1 to ${pages}` });
  box.addEventListener("change", () => {
    const chosen = Math.min(pages, Math.max(1, Math.round(Number(box.value)) || 1));
    location.hash = address(view, query, { page: chosen, at: "" });
  });
  pager.append(link("First", 1, "first"), link("Previous", Math.max(1, page - 1), "prev"),
    make("span", {}, "Page ", box, ` of ${number(pages)}`),
    link("Next", Math.min(pages, page + 1), "next"), link("Last", pages, "last"));
}

function showCount(view, what, found, first, shown) {
  view.querySelector(".found").textContent = found === 0 ? `No ${what}.`
    : shown === found ? `${number(found)} ${found === 1 ? what.slice(0, -1) : what}.` : `${what[0].toUpperCase()}${what.slice(1)} ${number(first)} to ${number(first + shown - 1)} of ${number(found)}.`;
}

function setForm(form, query) {
  for (const control of form.elements) {
    if (control.type === "checkbox") control.checked = query.has(control.name);
    else if ([...control.options].some((option) => option.value === (query.get(control.name) ?? "")))
      control.value = query.get(control.name) ?? "";
    else control.value = "";
  }
}

const pageOf = (query, pages) => Math.min(pages, Math.max(1, parseInt(query.get("page"), 10) || 1));

// --- patients ---

// Of a pseudonym, a keyed hash, the first digits are shown and the whole on hover.
const patientName = (id) =>
  /^[0-9a-f]{64}$/.test(id) ? make("span", { title: id }, `${id.slice(0, 12)}…`) : make("span", {}, id);
const fileNames = (patient) => (/^[0-9a-f]{64}$/.test(patient.id)
  ? [make("span", { class: "quiet" }, ` ${patient.eyes.map((one) => one.file).join(", ")}`)] : []);

const patientTests = {
  urgent: (referable, ungraded, undecided) => referable || ungraded || undecided,
  referable: (referable) => referable,
  attention: (referable, ungraded) => ungraded,
  reading: (_referable, _ungraded, undecided) => undecided,
};

function findPatients(query) {
  const test = patientTests[query.get("show")] ?? (() => true);
  const found = [];
  const { referable, attention, waits } = reportData.patients;
  for (let index = 0; index < referable.length; index++)
    if (test(referable[index] === "1", attention[index] === "1", waits[index] === "1")) found.push(index);
  return found;
}

async function showPatients(view, query, isCurrent) {
  setForm(view.querySelector("form"), query);
  const found = findPatients(query);
  const pages = Math.max(1, Math.ceil(found.length / PATIENTS_PER_PAGE)), page = pageOf(query, pages);
  const shown = found.slice((page - 1) * PATIENTS_PER_PAGE, page * PATIENTS_PER_PAGE);
  showCount(view, "patients", found.length, (page - 1) * PATIENTS_PER_PAGE + 1, shown.length);
  fillPager(view.querySelector(".pager"), "patients", query, page, pages);
  const body = view.querySelector("tbody");
  body.replaceChildren();
  view.querySelector(".scroll").hidden = found.length === 0;
  const positions = shown.map((index) => [Math.floor(index / reportData.patientsPerPart), index % reportData.patientsPerPart]);
  try {
    const rows = await Promise.all(positions.map(async ([part, row]) => (await loadPart("patients", part + 1))[row]));
    if (isCurrent()) body.replaceChildren(...rows.map((row, order) => patientRow(row, shown[order])));
  } catch (error) {
    if (isCurrent()) view.querySelector(".found").textContent = error.message;
  }
}

function patientRow(patient, index) {
  const name = patient.id === null
    ? make("th", { scope: "row" }, make("span", { class: "quiet" }, "no patient ID: "), patient.eyes[0].file)
    : make("th", { scope: "row" }, patientName(patient.id), ...fileNames(patient));
  const outcome = make("td", {}, patient.grade === null ? null : badge(patient.grade, patient.byModel), " ",
    patient.attention ? attention("ungraded eye") : null, " ", patient.waits ? attention(patient.waits) : null);
  const eyes = Object.entries(reportData.eyeLabels).map(([eye, label]) => make("td", { "data-label": label }, ...patient.eyes.filter((one) => one.eye === eye)
    .flatMap((one) => [
      make("a", { href: `#images?at=${one.rank}`, ...(one.waits && { class: "pending" }) }, one.grade === null ? one.waits ?? one.label : gradeText(one.grade, one.byModel)),
      one.waits && one.grade !== null ? make("span", { class: "quiet" }, ` another image: ${one.waits}`) : null,
      one.photographs > 1 ? make("span", { class: "quiet" }, ` worst of ${one.photographs} images`) : null,
    ])));
  const print = make("button", { type: "button", class: "plain" }, "Print");
  print.addEventListener("click", () => printSheets([index], true));
  return make("tr", {}, name, outcome, ...eyes, make("td", {}, `${patient.steps.map((key) => reportData.nextSteps[key]).join(" ")} `, print));
}

// --- photographs of patients, on the overview and on paper ---

async function imageAt(rank) {
  const part = await loadPart("images", Math.floor((rank - 1) / reportData.imagesPerPart) + 1);
  return part[(rank - 1) % reportData.imagesPerPart];
}

const patientAt = async (index) =>
  (await loadPart("patients", Math.floor(index / reportData.patientsPerPart) + 1))[index % reportData.patientsPerPart];

async function photographs(eyes) {
  const images = await Promise.all(eyes.map((one) => imageAt(one.rank)));
  return images.flatMap((image) => {
    if (!image.pictures) return [];
    const code = reportData.eyeCodes[image.eye];
    const words = image.pictures.large ? code : `${code}: preview, not for grading`;
    const one = picture(image.pictures.photograph, "photograph");
    one.alt = `Photograph, ${code}`;
    const plain = make("figure", {}, make("span", { class: "stack" }, one), make("figcaption", {}, words));
    const layer = influence(image);
    return [{ plain, marked: layer && markedOf(plain, layer, `${code} with areas`) }];
  });
}

// The same photograph with the areas.
function markedOf(plain, layer, words) {
  const figure = plain.cloneNode(true);
  figure.querySelector(".stack").append(layer);
  figure.querySelector("figcaption").textContent = words;
  return figure;
}

async function fillPeople() {
  for (const person of document.querySelectorAll(".person")) {
    try {
      // Eyes to be seen: their images are in the first parts, those of the other eyes anywhere.
      const { eyes } = await patientAt(Number(person.dataset.number) - 1);
      const urgent = eyes.filter((one) => one.grade >= 2);
      const shown = await photographs(urgent.length ? urgent : eyes);
      const figures = shown.length === 1 ? [shown[0].plain, shown[0].marked] : shown.map((one) => one.marked ?? one.plain);
      person.querySelector(".pair").replaceChildren(...figures.filter(Boolean).slice(0, 2));
    } catch (error) {
      person.querySelector(".pair").replaceChildren(make("p", { class: "missing" }, error.message));
      return;
    }
  }
}

async function sheetOf(index) {
  const patient = await patientAt(index);
  const name = patient.id === null ? `no patient ID: ${patient.eyes[0].file}` : patientName(patient.id);
  const eyes = patient.eyes.map((one) => make("li", {}, `${reportData.eyeCodes[one.eye]}: `,
    one.grade === null ? one.waits ?? one.label : gradeText(one.grade, one.byModel), ` (${one.file})`));
  const figures = (await photographs(patient.eyes)).flatMap(({ plain, marked }) => (marked ? [plain, marked] : [plain]));
  const legend = figures.some((one) => one.querySelector(".influence")) && document.querySelector("#view-images .legend");
  return make("section", { class: "sheet" }, make("h2", {}, name),
    make("p", { class: "line" }, patient.grade === null ? null : badge(patient.grade, patient.byModel),
      patient.attention ? attention("ungraded eye") : null, patient.waits ? attention(patient.waits) : null),
    make("p", {}, patient.steps.map((key) => reportData.nextSteps[key]).join(" ")), make("ul", {}, ...eyes),
    make("div", { class: "pair" }, ...figures), legend ? legend.cloneNode(true) : null);
}

// indices: of patients. The sheets follow the overview, or stand alone.
async function printSheets(indices, alone) {
  const sheets = document.getElementById("sheets");
  sheets.replaceChildren(...await Promise.all(indices.map(sheetOf)));
  await Promise.all([...sheets.querySelectorAll("img")].map((one) => one.decode().catch(() => {})));
  sheets.hidden = false;
  document.body.classList.toggle("sheets-only", alone);
  window.print();
}

window.addEventListener("afterprint", () => {
  document.getElementById("sheets").hidden = true;
  document.body.classList.remove("sheets-only");
});
document.getElementById("print")?.addEventListener("click", () =>
  printSheets(findPatients(new URLSearchParams("show=urgent")), false));

// --- images ---

function imageTests(query) {
  const tests = [], outcome = query.get("outcome"), code = query.get("code");
  if (outcome === "referable") tests.push((index) => "234R".includes(columns.outcome[index]));
  else if (outcome === "none") tests.push((index) => columns.outcome[index] > "9");
  else if (outcome === "r") tests.push((index) => "rR".includes(columns.outcome[index]));
  else if (outcome) tests.push((index) => columns.outcome[index] === outcome);
  if (code) {
    const position = columns.codes.indexOf(code);
    tests.push((index) => position >= 0 && columns.code[index] === String.fromCharCode(48 + position));
  }
  if (query.get("eye")) tests.push((index) => columns.eye[index] === query.get("eye")[0]);
  if (query.get("reference")) tests.push((index) => columns.reference[index] === query.get("reference"));
  if (query.has("differs")) tests.push((index) => columns.reference[index] !== "-" && columns.outcome[index] <= "4"
    && columns.outcome[index] !== columns.reference[index]);
  const reading = query.get("reading");
  if (reading === "done") tests.push((index) => columns.reading[index] === "s" || columns.reading[index] === "c");
  else if (reading) tests.push((index) => columns.reading[index] === reading);
  if (query.has("unsure")) tests.push((index) => columns.unsure[index] === "1");
  return tests;
}

function findImages(query) {
  const tests = imageTests(query), found = [];
  for (let index = 0; index < columns.outcome.length; index++)
    if (tests.every((test) => test(index))) found.push(index);
  return found;
}

let cards = [];  // images shown that have thumbnails

async function showImages(view, query, isCurrent) {
  setForm(view.querySelector("form"), query);
  const found = findImages(query), at = found.indexOf(Number(query.get("at")) - 1);
  const pages = Math.max(1, Math.ceil(found.length / IMAGES_PER_PAGE));
  const page = at >= 0 ? Math.floor(at / IMAGES_PER_PAGE) + 1 : pageOf(query, pages);
  const shown = found.slice((page - 1) * IMAGES_PER_PAGE, page * IMAGES_PER_PAGE);
  showCount(view, "images", found.length, (page - 1) * IMAGES_PER_PAGE + 1, shown.length);
  for (const pager of view.querySelectorAll(".pager")) fillPager(pager, "images", query, page, pages);
  cards = [];
  const articles = shown.map((index) => make("article", { id: `image-${index + 1}`, "aria-busy": "true", tabindex: "-1" }));
  view.querySelector(".cards").replaceChildren(...articles);
  await Promise.all(shown.map(async (index, order) => {
    try {
      const part = await loadPart("images", Math.floor(index / reportData.imagesPerPart) + 1);
      if (isCurrent()) fillCard(articles[order], part[index % reportData.imagesPerPart], order);
    } catch (error) {
      if (isCurrent()) articles[order].replaceChildren(make("p", {}, error.message));
    }
    articles[order].removeAttribute("aria-busy");
  }));
  const target = at >= 0 && isCurrent() && articles[at % IMAGES_PER_PAGE];
  if (target) {
    target.classList.add("target");
    target.scrollIntoView({ block: "center" });
    target.focus({ preventScroll: true });
  }
}

function fillCard(card, image, order) {
  const differs = image.grade !== null && image.reference !== null && image.grade !== image.reference;
  const facts = make("p", { class: "line" },
    image.grade === null ? attention(image.waits ?? image.label) : badge(image.grade, image.byModel),
    image.patient === null ? null : make("span", {}, "patient ", patientName(image.patient)),
    image.eye === "unknown" ? null : make("span", {}, reportData.eyeLabels[image.eye]),
    image.reference === null ? null : make("span", differs ? { class: "wrong" } : {}, `reference grade ${image.reference}${differs ? ", differs" : ""}`));
  card.setAttribute("aria-labelledby", `name-${image.rank}`);
  card.replaceChildren(make("h2", { id: `name-${image.rank}` }, image.file), facts);
  if (image.reading) card.append(reviewSummary(image));
  if (image.pictures) card.append(panels(image, order));
  else if (image.missing) card.append(make("p", { class: "missing" }, `No photograph: ${image.missing}`));
  if (image.chances) card.append(leadingScore(image));
  for (const flag of image.flags) card.append(make("p", { class: "quiet" }, reportData.flagNotes[flag] ?? flag));
  const more = make("details", {}, make("summary", {}, "Scores and provenance"));
  if (image.chances) more.append(scoreTable(image));
  if (image.code) more.append(make("p", {}, make("code", {}, image.code), ` ${image.detail ?? ""}`));
  more.append(make("p", { class: "quiet" }, image.id));
  card.append(more);
}

function leadingScore(image) {
  const { score, threshold } = reportData.words;
  return make("p", { class: "leading" }, `${score} for referable DR `, make("b", {}, `${image.chances[1].toFixed(0)} %`),
    `, ${threshold.toLowerCase()} ${reportData.thresholds[1].toFixed(0)} %`);
}

const gradeText = (value, byModel) => value === null ? "ungradable" : value === 0 && byModel ? `0 ${reportData.nothingFound}`
  : reportData.gradeLabels[value] ? `${value} ${reportData.gradeLabels[value]}` : value;

function reviewSummary(image) {
  const { state, model, decisions } = image.reading;
  const result = gradeText(model, true);
  const text = state === "half_read" ? `One of two reviews; model result: ${result}`
    : state === "disputed" ? `Readers disagree; model result: ${result}`
      : model === (image.grade ?? "ungradable") ? "Model result confirmed" : `Changed from model result: ${result}`;
  return make("div", { class: "read" }, make("p", {}, `${text}.`),
    ...decisions.map((one) => make("p", { class: "quiet" },
      `${one.reader}${one.kind === "arbitration" ? " (arbitration)" : ""}: ${[gradeText(one.grade), ...one.findings, one.at].join(", ")}`)));
}

// Photograph, tint and contour lines are pictures of the same square.
function influence(image) {
  const { tint, lines } = image.pictures;
  if (!tint && !lines) return null;
  const layer = make("span", { class: "influence" });
  if (tint) layer.append(picture(tint, "tint"));
  if (lines) {
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", "0 0 1000 1000");
    for (const name of ["casing", "line"]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", lines);
      path.setAttribute("class", name);
      drawing.append(path);
    }
    layer.append(drawing);
  }
  return layer;
}

function panels(image, order) {
  const photograph = () => picture(image.pictures.photograph, "photograph");
  const panel = (label, ...pictures) => make("span", { class: "panel" },
    make("span", { class: "stack" }, ...pictures), make("span", { class: "words" }, label));
  const button = make("button", { type: "button", class: "panels", "aria-label": `Enlarge ${image.file}` },
    panel(image.pictures.large ? "photograph" : "preview, not for grading", photograph()));
  if (image.chances === null) button.append(make("span", { class: "without" }, "no map: not graded by the model"));
  else button.append(panel(influence(image) ? "with areas that influenced the result" : "no area stands out", photograph(), influence(image)));
  cards[order] = image;
  button.addEventListener("click", () => enlarge(order));
  return button;
}

function scoreTable(image) {
  const rows = image.chances.map((score, index) => {
    const filled = make("span", { class: "filled" }), tick = make("span", { class: "tick" });
    const threshold = reportData.thresholds[index];
    filled.style.width = `${score}%`;
    tick.style.left = `${threshold}%`;
    return make("tr", {}, make("th", { scope: "row" }, reportData.outputLabels[index + 1]),
      make("td", { class: "number" }, `${score.toFixed(0)} %`),
      make("td", { class: "meter", "aria-hidden": "true" }, filled, tick),
      make("td", { class: "number quiet" }, `${threshold.toFixed(0)} %`));
  });
  return make("table", { class: "chances" }, make("caption", { class: "skip" }, "Model scores and thresholds"),
    make("thead", {}, make("tr", {}, make("th", { scope: "colgroup", colspan: 2 }, "Model score"), make("td", { class: "meter" }),
      make("th", { scope: "col", class: "number" }, "Threshold"))),
    make("tbody", {}, ...rows));
}

// --- enlarged ---

const dialog = document.querySelector("dialog"), slider = dialog.querySelector("input");
const stack = dialog.querySelector(".stack");
let enlarged = 0;

function enlarge(order) {
  const image = cards[order], layer = influence(image);
  enlarged = order;
  dialog.querySelector("h2").textContent = `${image.file}: ${image.grade === null ? image.waits ?? image.label : gradeText(image.grade, image.byModel)}`
    + (image.reference === null ? "" : `, reference grade ${image.reference}`);
  const photograph = picture(image.pictures.photograph, "photograph");
  photograph.alt = "Photograph";
  stack.replaceChildren(photograph, ...(layer ? [layer] : []));
  slider.disabled = layer === null;
  dialog.querySelector(".preview").hidden = image.pictures.large;
  fade();
  dialog.querySelector(".previous").disabled = neighbour(-1) === undefined;
  dialog.querySelector(".next").disabled = neighbour(1) === undefined;
  if (!dialog.open) dialog.showModal();
}

function fade() {
  const layer = stack.querySelector(".influence");
  if (layer) layer.style.opacity = slider.value / 100;
}

function neighbour(direction) {
  for (let order = enlarged + direction; order >= 0 && order < cards.length; order += direction)
    if (cards[order]) return order;
  return undefined;
}

slider.addEventListener("input", fade);
dialog.addEventListener("keydown", (event) => {
  if (event.key === "m") slider.value = slider.value > 0 ? 0 : 100, fade();
  else if (event.target !== slider && event.key === "ArrowLeft" && neighbour(-1) !== undefined) enlarge(neighbour(-1));
  else if (event.target !== slider && event.key === "ArrowRight" && neighbour(1) !== undefined) enlarge(neighbour(1));
});
dialog.querySelector(".previous").addEventListener("click", () => enlarge(neighbour(-1)));
dialog.querySelector(".next").addEventListener("click", () => enlarge(neighbour(1)));
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => document.querySelector(`#image-${cards[enlarged]?.rank} button`)?.focus());

// --- views ---

const views = { overview: async () => {}, patients: showPatients, images: showImages };
let latest = 0, current = "overview";

function show() {
  const [name, query] = location.hash.slice(1).split("?");
  if (!(name in views)) return;  // an anchor within the view, such as the target of the skip link
  const navigation = ++latest, view = document.getElementById(`view-${name}`);
  for (const other of document.querySelectorAll(".view")) other.hidden = other !== view;
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name !== current) {
    window.scrollTo(0, 0);
    view.querySelector("h1").focus({ preventScroll: true });
  }
  current = name;
  if (dialog.open) dialog.close();
  views[name](view, new URLSearchParams(query), () => navigation === latest);
}

for (const [view, id] of [["patients", "patient-filters"], ["images", "image-filters"]]) {
  const form = document.getElementById(id);
  form.addEventListener("change", () => {
    const given = [...new FormData(form)].filter(([, value]) => value !== "");
    location.hash = address(view, new URLSearchParams(given), {});
  });
  form.addEventListener("submit", (event) => event.preventDefault());
}
for (const link of document.querySelectorAll("a[data-file]")) link.href = addresses[link.dataset.file] ?? link.dataset.file;
window.addEventListener("hashchange", show);
show();
fillPeople();
})();
