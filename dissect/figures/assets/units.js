"use strict";
const numbers = JSON.parse(document.getElementById("numbers").textContent);
const table = document.getElementById("units");
const body = table.tBodies[0];
const headings = [...table.tHead.rows[0].cells].filter((cell) => cell.dataset.kind);
const rows = [...body.rows].map((element) => ({ element, place: Number(element.dataset.row) }));
const by = (id) => document.getElementById(id);
const sorted = { kind: "iou", descending: true };

// The concept whose numbers a row shows: the one asked for, or the unit's own best.
function shown(place) {
  const asked = by("concept").value;
  return asked === "" ? numbers.best[place] : Number(asked);
}

function value(place, kind) {
  if (kind === "layer" || kind === "unit") return numbers[kind][place];
  if (kind === "best") return numbers.concepts[numbers.best[place]] ?? null;
  return numbers[kind][place][Math.max(shown(place), 0)];
}

function text(found, [digits, percent]) {
  if (found === null) return "\u2013";
  const rounded = (percent ? 100 * found : found).toFixed(digits);
  const plain = Number(rounded) === 0 ? rounded.replace("-", "") : rounded.replace("-", "\u2212");
  return percent ? plain + "%" : plain;
}

function isDetector(place) {
  const asked = by("concept").value;
  return numbers.detector[place] && (asked === "" || Number(asked) === numbers.best[place]);
}

function compare(a, b) {
  const [x, y] = [value(a.place, sorted.kind), value(b.place, sorted.kind)];
  // Units without a number stand last, whichever way the others are sorted.
  if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
  const order = typeof x === "string" ? x.localeCompare(y) : x - y;
  return (sorted.descending ? -order : order) || a.place - b.place;
}

function update() {
  const layer = by("layer")?.value ?? "";
  let visible = 0;
  for (const row of rows) {
    const fits =
      (layer === "" || numbers.layer[row.place] === Number(layer)) &&
      (!by("only").checked || isDetector(row.place));
    row.element.hidden = !fits;
    visible += fits;
    headings.forEach((heading, column) => {
      const format = numbers.measures[heading.dataset.kind];
      if (!format) return;
      row.element.cells[column].textContent = text(value(row.place, heading.dataset.kind), format);
    });
  }
  rows.sort(compare);
  body.append(...rows.map((row) => row.element));
  for (const heading of headings) {
    const mine = heading.dataset.kind === sorted.kind;
    heading.setAttribute("aria-sort", mine ? (sorted.descending ? "descending" : "ascending") : "none");
  }
  document.body.classList.toggle("bare", !by("outlines").checked);
  by("status").textContent = `${visible} of ${rows.length} units`;
}

for (const heading of headings) {
  heading.querySelector("button").addEventListener("click", () => {
    const kind = heading.dataset.kind;
    const fromLow = kind === "layer" || kind === "unit" || kind === "best";
    sorted.descending = sorted.kind === kind ? !sorted.descending : !fromLow;
    sorted.kind = kind;
    update();
  });
}
for (const button of document.querySelectorAll("#concepts button")) {
  button.addEventListener("click", () => {
    by("concept").value = button.dataset.concept;
    Object.assign(sorted, { kind: "iou", descending: true });
    update();
    by("controls").scrollIntoView();
  });
}
for (const link of document.querySelectorAll("#concepts a")) {
  link.addEventListener("click", () => {
    // A row that is filtered out cannot be gone to.
    by("only").checked = false;
    if (by("layer")) by("layer").value = "";
    update();
  });
}
by("controls").addEventListener("change", update);
by("controls").addEventListener("submit", (event) => event.preventDefault());
update();
