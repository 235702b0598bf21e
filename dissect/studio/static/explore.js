// The room in which units are switched off, and brushed with.

import { get, latest, post } from "./api.js";
import { $, bytes, notice, onSlide, opened, options, saved } from "./dom.js";
import {
  brushCells, copyEdit, editBody, editFrom, editWords, freshEdit, nearestSample, steppedCell,
} from "./edit.js";
import { showFields } from "./fields.js";
import { History } from "./history.js";
import { EXPLORE } from "./keys.js";
import { makeMask } from "./masks.js";
import { forgetMeasure, makeMeasure, showMeters } from "./meters.js";
import { makePane } from "./pane.js";
import { makeRanking, RANKINGS, sortName } from "./ranking.js";
import { makeSaving } from "./saving.js";
import { nextThatShows } from "./samples.js";
import { makeUnitList } from "./units.js";

export function exploreRoom(models, remember) {
  let model = models[0];
  let about = null; // the model's layers, concepts and size
  let study = null; // the layer's units beside the concept
  let strengths = null; // what every unit does on this sample
  let sample = { seed: 1, index: 0 };
  let before = null;
  let after = null;
  let control = null; // the same edit of random units, where it is shown
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
  const mask = makeMask(() => { overlay(); keep(); });
  const ranking = makeRanking(context, (by, values) => {
    study.scores[by] = values;
    if ($("sort").value === by) sortUnits({ byItself: true });
  });

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

  function context() {
    return { model, layer: $("layer").value, concept: $("concept").value };
  }

  const body = () => ({ ...context(), ...sample, ...editBody(edit) });

  const draw = latest(async () => {
    if (!study) return;
    const began = gesture;
    try {
      after = opened(await post("edit", body()));
      panes.after.show(after.pixels, about.width, about.height);
      control = null;
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
    const masked = mask.chosen() && before?.labels;
    const size = [about.width, about.height];
    mask.legend(masked && [...before.labels, ...(after?.labels ?? [])]);
    if ($("see").checked && strengths) {
      panes.before.heat(strengths.probability);
      panes.before.caption("what the probe sees");
    } else if (masked) mask.over(panes.before, before.labels, ...size);
    if (masked && after) mask.over(panes.after, after.labels, ...size);
    if (masked && control && $("control").checked) mask.over(panes.control, control.labels, ...size);
  }

  function showEdit() {
    showFields(edit, study);
    panes.after.node.hidden = !study;
    list.tick(edit.units);
    const brushing = edit.where === "brush";
    $("panes").classList.toggle("brushing", brushing);
    for (const pane of [panes.before, panes.after]) {
      pane.brushed(brushing ? edit.cells : new Map(), brushing ? cursor : null);
    }
    panes.control.node.hidden = !$("control").checked;
    forgetMeasure(number() >= 0 && !brushing);
  }

  function keep() {
    const sort = $("sort").value;
    remember("explore", {
      ...context(), ...sample, ...editWords(edit), ...(sort !== "weight" && { sort }),
      ...(mask.chosen() && { mask: mask.chosen() }), ...($("see").checked && { see: 1 }),
      ...($("control").checked && { control: $("control").dataset.draw }),
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

  /** Take the first units of the list, whatever it is sorted by. */
  function takeTop(event) {
    const wanted = Math.min(Math.max(1, Math.floor(Number($("top").value)) || 1), study.top.length);
    $("top").value = wanted;
    change((now) => { now.units = new Set(list.first(wanted)); }, event);
  }

  function sortUnits(options) {
    const by = $("sort").value;
    $("head").textContent = sortName(by in study.scores ? by : "weight");
    list.sort(study, by, options);
  }

  /** Sort as the select says; what is not known yet is measured now. */
  function chooseSort() {
    const by = $("sort").value;
    if (RANKINGS.includes(by)) ranking.follow(by);
    else ranking.stop();
    sortUnits();
    keep();
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
    options($("concept"), counted.map(([name, boxes]) => [name, `${name}: ${boxes} boxes`]));
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
    mask.offer(about.classes, short());
    $("with-concept").hidden = number() < 0;
    $("with-concept").textContent = `Next ${short()}`;
  }

  /** The units of the layer beside the concept; `words` of the address may bring an edit. */
  async function openStudy(words) {
    saved("fitting the probe…");
    study = await get("units", context());
    saved("");
    // What counts the concept's pixels must know it.
    const names = [...Object.keys(study.scores), ...(number() < 0 ? [] : RANKINGS), "unit"];
    const sort = words.get("sort") ?? $("sort").value;
    options($("sort"), names.map((name) => [name, sortName(name)]));
    $("sort").value = names.includes(sort) ? sort : "weight";
    list.show(study, $("sort").value, thumbnail);
    chooseSort();
    for (const pane of Object.values(panes)) pane.grid(...study.grid);
    cursor = null;
    edit = editFrom(words, study.top.length, study.grid[0] * study.grid[1]);
    if (!words.has("units")) {
      edit.units = new Set((await get("rule", { ...context(), rule: "positive" })).units);
    }
    $("top").max = study.top.length;
    if (words.has("units")) {
      mask.choose(words.get("mask"));
      $("see").checked = words.has("see");
      $("control").checked = words.has("control");
      $("control").dataset.draw = nearestSample(0, words.get("control")).index;
    }
    history.forget(() => true);
    showEdit();
    await look();
  }

  async function reopen(words = new URLSearchParams()) {
    try {
      study = null;
      ranking.stop();
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
  $("sort").addEventListener("change", chooseSort);
  $("positive").addEventListener("click", () => take("positive"));
  $("take-top").addEventListener("click", takeTop);
  $("none").addEventListener("click", (event) => change(({ units }) => units.clear(), event));
  $("clear").addEventListener("click", (event) => change(({ cells }) => cells.clear(), event));
  $("where").addEventListener("change", (event) => {
    change((now) => { now.where = event.target.value; }, event);
  });
  for (const name of ["seed", "index"]) {
    $(name).addEventListener("change", () => go($("seed").value, $("index").value));
  }
  $("sample-previous").addEventListener("click", () => go(sample.seed, sample.index - 1));
  $("sample-next").addEventListener("click", () => go(sample.seed, sample.index + 1));
  $("with-concept").addEventListener("click", async () => {
    const shows = { at: number(), name: short(), pixels: about.width * about.height };
    const found = await nextThatShows({ model, ...sample }, shows);
    if (found) go(found.seed, found.index);
  });
  $("undo-edit").addEventListener("click", undo);
  $("redo-edit").addEventListener("click", redo);
  $("see").addEventListener("change", () => { overlay(); keep(); });
  $("control").dataset.draw = 0;
  $("control").addEventListener("change", () => { showEdit(); draw(); });
  $("redraw").addEventListener("click", () => {
    $("control").dataset.draw = Number($("control").dataset.draw) + 1;
    draw();
  });
  makeSaving(body);
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
    m: () => mask.toggle(short()),
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
