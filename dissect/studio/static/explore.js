// The room in which units are switched off, and brushed with.

import { get, latest, post } from "./api.js";
import { $, bytes, notice, onSlide, opened, options, saved } from "./dom.js";
import {
  brushCells, copyEdit, editBody, editFrom, editWords, freshEdit, nearestSample, steppedCell,
} from "./edit.js";
import { History } from "./history.js";
import { EXPLORE } from "./keys.js";
import { forgetMeasure, makeMeasure, showMeters } from "./meters.js";
import { makePane } from "./pane.js";
import { makeUnitList } from "./units.js";

const MOST_TRIED = 40; // samples looked through for one that shows the concept
const SHOWS = 0.015; // the share of an image's pixels from which it does

export function exploreRoom(models, remember) {
  let model = models[0];
  let about = null; // the model's layers, concepts and size
  let study = null; // the layer's units beside the concept
  let strengths = null; // what every unit does on this sample
  let sample = { seed: 1, index: 0 };
  let before = null;
  let after = null;
  let cursor = null;
  let hovered = null;
  let gesture = null; // when the hand did what the next picture shows
  let edit = freshEdit();

  const history = new History(() => {
    $("undo-edit").disabled = !history.canUndo;
    $("redo-edit").disabled = !history.canRedo;
  });
  const list = makeUnitList($("units"), {
    tick: (unit, on) => change(({ units }) => (on ? units.add(unit) : units.delete(unit))),
    hover,
  });
  const handlers = { brush, key: pressPane };
  const panes = {
    before: makePane("Before", handlers),
    after: makePane("After", handlers),
    control: makePane("Random units", handlers),
  };
  $("panes").append(...Object.values(panes).map(({ node }) => node));

  const short = () => $("concept").value.split(" (")[0];
  const number = () => about?.classes?.indexOf(short()) ?? -1;
  const thumbnail = (seed, index) => `api/sample/${models.indexOf(model)}/${seed}/${index}.png`;

  /** Change the edit by a step that can be undone; strokes and slides of one hand are one step. */
  function change(alter, event, { joined = false } = {}) {
    gesture = event?.timeStamp ?? performance.now();
    const past = copyEdit(edit);
    alter(edit);
    if (!joined) history.push({ past });
    showEdit();
    draw();
  }

  function restore(state) {
    if (!state) return;
    edit = copyEdit(state);
    showEdit();
    draw();
  }

  function undo() {
    const step = history.undo();
    if (!step) return;
    step.later = copyEdit(edit);
    restore(step.past);
  }

  function redo() {
    restore(history.redo()?.later);
  }

  const context = () => ({ model, layer: $("layer").value, concept: $("concept").value });
  const body = () => ({ ...context(), ...sample, ...editBody(edit) });

  const draw = latest(async () => {
    if (!study) return;
    const began = gesture;
    let control = null;
    try {
      after = opened(await post("edit", body()));
      panes.after.show(after.pixels, about.width, about.height);
      if ($("control").checked) {
        control = opened(await post("edit", { ...body(), control: Number($("control").dataset.draw) }));
        panes.control.show(control.pixels, about.width, about.height);
      }
      showMeters({ before, after, control, at: number(), concept: short() });
      panes.after.describe(`After the edit of ${edit.units.size} units ${edit.where}`);
      overlay();
      // How long a hand waits for the picture; the tests read it, and so may anybody.
      if (began !== null) performance.measure("edit", { start: began, end: performance.now() });
      gesture = gesture === began ? null : gesture;
      keep();
    } catch (error) {
      notice(error.message, { id: "edit" });
    }
  });

  const look = latest(async () => {
    if (!about) return;
    try {
      before = opened(await get("before", { model, ...sample }));
      panes.before.show(before.pixels, about.width, about.height);
      $("seed").value = sample.seed;
      $("index").value = sample.index;
      panes.before.describe(`Before: the sample of seed ${sample.seed}, index ${sample.index}`);
      if (!study) return;
      const answer = await get("strengths", { ...context(), ...sample });
      strengths = { levels: bytes(answer.levels), probability: bytes(answer.probability) };
      await draw();
    } catch (error) {
      notice(error.message, { id: "look" });
    }
  });

  function overlay() {
    for (const pane of Object.values(panes)) pane.clear();
    if (hovered !== null && strengths) {
      const cells = study.grid[0] * study.grid[1];
      panes.before.heat(strengths.levels.subarray(hovered * cells, (hovered + 1) * cells));
      panes.before.caption(`unit ${hovered}`);
      return;
    }
    panes.before.caption("");
    const masked = $("mask").checked && number() >= 0;
    if ($("see").checked && strengths) {
      panes.before.heat(strengths.probability);
      panes.before.caption("what the probe sees");
    } else if (masked) panes.before.mask(before.labels, number(), about.width, about.height);
    if (masked && after) panes.after.mask(after.labels, number(), about.width, about.height);
  }

  function showEdit() {
    // Without units there is nothing to edit, and nothing to press.
    const needing = document.querySelectorAll("#explore .units .tools, #explore .controls");
    for (const part of [...needing, panes.after.node]) part.hidden = !study;
    list.tick(edit.units);
    $("chosen").textContent = study ? `${edit.units.size} of ${study.top.length} units` : "";
    $("strength").value = edit.strength;
    $("strength-value").textContent = edit.strength.toFixed(2);
    $("threshold").value = edit.threshold;
    $("threshold-value").textContent = edit.threshold.toFixed(2);
    for (const radio of $("where").querySelectorAll("input")) radio.checked = radio.value === edit.where;
    const brushing = edit.where === "brush";
    $("brushes").hidden = !brushing;
    $("threshold-field").hidden = edit.where !== "probe";
    $("panes").classList.toggle("brushing", brushing);
    for (const pane of [panes.before, panes.after]) {
      pane.brushed(brushing ? edit.cells : new Map(), brushing ? cursor : null);
    }
    panes.control.node.hidden = !$("control").checked;
    $("redraw").hidden = !$("control").checked;
    forgetMeasure(number() >= 0 && !brushing);
    const bakes = edit.where === "everywhere" && edit.strength === 1;
    $("save-checkpoint").disabled = !bakes;
    const reason = "Only units removed everywhere, at strength 1, can be written into the weights";
    $("save-checkpoint").title = bakes ? "" : reason;
  }

  function keep() {
    const sort = $("sort").value;
    remember("explore", {
      ...context(), ...sample, ...editWords(edit), ...(sort !== "weight" && { sort }),
    });
  }

  function hover(unit) {
    hovered = unit;
    if (before) overlay();
  }

  function brush(at, first, event) {
    if (edit.where !== "brush" || !study) return false;
    const kind = $("brushes").querySelector("input:checked").value;
    const width = Math.max(1, Number($("width").value) || 1);
    change((now) => brushCells(now, at, study.grid, kind, width), event, { joined: !first });
    return true;
  }

  function pressPane(event) {
    if (edit.where !== "brush" || !study) return false;
    const next = steppedCell(cursor, event.key, study.grid);
    if (next !== null) {
      event.stopPropagation();
      cursor = next;
      showEdit();
      saved(`row ${Math.floor(cursor / study.grid[1]) + 1}, column ${(cursor % study.grid[1]) + 1}`);
      return true;
    }
    if (event.key === " " && cursor !== null) return brush(cursor, true, event);
    return false;
  }

  async function take(rule) {
    if (!study) return;
    const began = performance.now();
    try {
      const { units } = await get("rule", { ...context(), rule });
      change((now) => { now.units = new Set(units); }, { timeStamp: began });
    } catch (error) {
      notice(error.message, { id: "rule" });
    }
  }

  function go(seed, index) {
    sample = nearestSample(seed, index);
    look();
  }

  async function findNext() {
    const at = number();
    const enough = SHOWS * about.width * about.height;
    for (let tried = 1; tried <= MOST_TRIED; tried += 1) {
      const { counts } = await get("before", { model, seed: sample.seed, index: sample.index + tried });
      if ((counts[at] ?? 0) >= enough) return go(sample.seed, sample.index + tried);
    }
    return notice(`None of the next ${MOST_TRIED} samples shows a ${short()}.`, { good: true });
  }

  async function save(what) {
    try {
      const { file } = await post("save", { ...body(), what });
      notice(`Saved ${file}`, { good: true });
    } catch (error) {
      notice(error.message, { id: "save" });
    }
  }

  async function openModel(words) {
    about = await get("model", { model });
    options($("layer"), about.layers.map((name) => [name, name]));
    listConcepts();
    const wanted = [words.get("layer"), "layer8x8", about.layers[0]];
    $("layer").value = wanted.find((name) => about.layers.includes(name));
    if (words.get("concept") in about.concepts) $("concept").value = words.get("concept");
    nameConcept();
    const none = !Object.keys(about.concepts).length;
    const advice = "draw some under Annotate, which shows the first model’s samples.";
    if (none) notice(`No boxes are known on samples of this model: ${advice}`, { id: "none" });
    return !none;
  }

  function listConcepts() {
    const counted = Object.entries(about.concepts);
    options($("concept"), counted.map(([name, boxes]) => [name, `${name}, ${boxes} boxes`]));
  }

  /** Boxes may have been drawn since the room was left. */
  async function comeBack() {
    const chosen = $("concept").value;
    const boxes = about.concepts[chosen];
    about = await get("model", { model });
    listConcepts();
    if (chosen in about.concepts) $("concept").value = chosen;
    if (about.concepts[chosen] === boxes) keep();
    else await restudy();
  }

  /** What needs the segmenter, and speaks of the concept, is there only where the two meet. */
  function nameConcept() {
    for (const id of ["mask-field", "with-concept"]) $(id).hidden = number() < 0;
    $("with-concept").textContent = `Next ${short()}`;
  }

  /** The units of the layer beside the concept; `words` of the address may bring an edit. */
  async function openStudy(words) {
    saved("fitting the probe…");
    study = await get("units", context());
    saved("");
    const shown = (name) => (name === "weight" ? "probe weight" : name);
    const names = [...Object.keys(study.scores).map((name) => [name, shown(name)]), ["unit", "number"]];
    const sort = words.get("sort") ?? $("sort").value;
    options($("sort"), names);
    $("sort").value = names.some(([name]) => name === sort) ? sort : "weight";
    list.show(study, $("sort").value, thumbnail);
    for (const pane of Object.values(panes)) pane.grid(...study.grid);
    cursor = null;
    edit = freshEdit();
    if (words.has("units")) {
      edit = editFrom(words, study.top.length, study.grid[0] * study.grid[1]);
    } else {
      edit.units = new Set((await get("rule", { ...context(), rule: "positive" })).units);
    }
    $("top").max = study.top.length;
    history.forget(() => true);
    showEdit();
    await look();
  }

  async function reopen(words = new URLSearchParams()) {
    try {
      study = null;
      $("units").replaceChildren();
      $("meters").replaceChildren();
      if (await openModel(words)) await openStudy(words);
      else {
        showEdit();
        await look();
      }
    } catch (error) {
      saved("");
      notice(error.message, { id: "open" });
    }
  }

  async function restudy() {
    try {
      nameConcept();
      await openStudy(new URLSearchParams());
    } catch (error) {
      saved("");
      notice(error.message, { id: "open" });
    }
  }

  options($("model"), models.map((name) => [name, name]));
  $("model-field").hidden = models.length < 2;
  $("model").addEventListener("change", (event) => { model = event.target.value; reopen(); });
  $("layer").addEventListener("change", restudy);
  $("concept").addEventListener("change", restudy);
  $("sort").addEventListener("change", () => {
    list.show(study, $("sort").value, thumbnail);
    list.tick(edit.units);
    keep();
  });
  $("positive").addEventListener("click", () => take("positive"));
  $("take-top").addEventListener("click", () => take(`top:${$("top").value}`));
  $("none").addEventListener("click", (event) => change(({ units }) => units.clear(), event));
  $("clear").addEventListener("click", (event) => change(({ cells }) => cells.clear(), event));
  $("where").addEventListener("change", (event) => {
    change((now) => { now.where = event.target.value; }, event);
  });
  $("seed").addEventListener("change", () => go($("seed").value, $("index").value));
  $("index").addEventListener("change", () => go($("seed").value, $("index").value));
  $("sample-previous").addEventListener("click", () => go(sample.seed, sample.index - 1));
  $("sample-next").addEventListener("click", () => go(sample.seed, sample.index + 1));
  $("with-concept").addEventListener("click", () => findNext().catch((error) => notice(error.message)));
  $("undo-edit").addEventListener("click", undo);
  $("redo-edit").addEventListener("click", redo);
  $("mask").addEventListener("change", overlay);
  $("see").addEventListener("change", overlay);
  $("control").dataset.draw = 0;
  $("control").addEventListener("change", () => { showEdit(); draw(); });
  $("redraw").addEventListener("click", () => {
    $("control").dataset.draw = Number($("control").dataset.draw) + 1;
    draw();
  });
  for (const what of ["units", "picture", "checkpoint"]) {
    $(`save-${what}`).addEventListener("click", () => save(what));
  }
  makeMeasure(body, short);
  for (const name of ["strength", "threshold"]) {
    onSlide($(name), (value, event, joined) => change((now) => { now[name] = value; }, event, { joined }));
  }
  history.changed();

  const actions = {
    ArrowLeft: () => go(sample.seed, sample.index - 1),
    ArrowRight: () => go(sample.seed, sample.index + 1),
    e: () => change((now) => { now.where = "everywhere"; }),
    p: () => change((now) => { now.where = "probe"; }),
    b: () => change((now) => { now.where = "brush"; }),
    m: () => { if (number() >= 0) { $("mask").checked = !$("mask").checked; overlay(); } },
    c: () => $("control").click(),
  };

  return {
    keys: EXPLORE,
    undo,
    redo,
    press(event) {
      if (event.target instanceof HTMLInputElement && event.target.type !== "checkbox") return false;
      const act = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!act || !about) return false;
      act();
      return true;
    },
    async enter(words) {
      const asked = models.includes(words.get("model")) ? words.get("model") : model;
      const seen = about && !words.size && asked === model && study;
      model = asked;
      $("model").value = model;
      if (words.has("index")) {
        sample = nearestSample(words.get("seed"), words.get("index"));
      }
      if (seen) await comeBack();
      else await reopen(words);
    },
  };
}
