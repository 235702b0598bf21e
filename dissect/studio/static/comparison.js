// The sample before and after the edit, and beside random units edited alike, with what lies over it.

import { get, latest, post } from "./api.js";
import { $, bytes, notice, opened } from "./dom.js";
import { makeMask } from "./masks.js";
import { showMetrics } from "./metrics.js";
import { makePanel } from "./panel.js";

const PLACES = {
  everywhere: "everywhere", probe: "where the probe sees it", auto: "where auto’s probe does",
  brush: "where it was brushed", file: "where the file says",
};

const GATES = {
  probe: "what the probe sees", auto: "what auto’s probe sees", file: "where the file’s edit acts",
};

/**
 * The panels. `room()` tells what is looked at: the model (`about` it: its size), the layer's units
 * (`study`), the `sample`, the `edit`, the concept's name (`concept`) and number (`at`), and what
 * requests name them by (`context`, and `body` with the edit). `drawn()` is told of new pictures,
 * `masked()` of another mask; `brush` and `key` go to the panels.
 */
export function makeComparison(room, { drawn, masked, brush, key }) {
  let before = null;
  let after = null;
  let control = null; // the same edit of random units, where it is shown
  let strengths = null; // what every unit does on this sample, and where gates are open
  let hovered = null; // the unit that is looked at
  let gesture = null; // when the hand did what the next picture shows

  const panels = {
    before: makePanel("Before", { brush, key }),
    after: makePanel("After", { brush, key }),
    control: makePanel("Random units", { brush, key }),
  };
  $("panels").append(...Object.values(panels).map(({ node }) => node));
  const mask = makeMask(() => { overlay(); masked(); });

  const edited = latest(async () => {
    const { about, study, edit, body, at, concept } = room();
    const began = gesture;
    const size = [about.width, about.height];
    try {
      after = opened(await post("edit", body));
      panels.after.show(after.pixels, ...size);
      control = null;
      if ($("control").checked) {
        control = opened(await post("edit", { ...body, control: Number($("control").dataset.draw) }));
        panels.control.show(control.pixels, ...size);
      }
      showMetrics({ before, after, control, at, concept });
      panels.after.describe(`After the edit of ${edit.units.size} units ${PLACES[edit.where === "auto" && study.auto.opened ? "file" : edit.where]}`);
      overlay();
      // How long a hand waits for the picture; the tests read it, and so may anybody.
      if (began !== null) performance.measure("edit", { start: began, end: performance.now() });
      gesture = gesture === began ? null : gesture;
      drawn();
    } catch (error) {
      notice(error.message, { id: "edit" });
    }
  });

  const looked = latest(async () => {
    const { about, context, sample } = room();
    try {
      before = opened(await get("before", { model: context.model, ...sample }));
      panels.before.show(before.pixels, about.width, about.height);
      panels.before.describe(`Before: the sample of seed ${sample.seed}, index ${sample.index}`);
      await compare();
    } catch (error) {
      notice(error.message, { id: "look" });
    }
  });

  /** What the units do on the sample, and the sample after the edit. */
  async function compare() {
    const { study, context, sample } = room();
    if (!study || !before) return;
    const answer = await get("strengths", { ...context, ...sample });
    const gates = Object.entries(answer.gates).map(([name, cells]) => [name, bytes(cells)]);
    strengths = { levels: bytes(answer.levels), gates: Object.fromEntries(gates) };
    await edited();
  }

  function overlay() {
    const { about, study, edit } = room();
    for (const panel of Object.values(panels)) panel.clear();
    if (hovered !== null && strengths && study) {
      const cells = study.grid[0] * study.grid[1];
      panels.before.heat(strengths.levels.subarray(hovered * cells, (hovered + 1) * cells));
      panels.before.caption(`unit ${hovered}`);
      return;
    }
    panels.before.caption("");
    const shown = mask.chosen() && before?.labels;
    const size = [about.width, about.height];
    mask.legend(shown && [...before.labels, ...(after?.labels ?? [])]);
    if ($("see").checked && strengths) {
      const gate = edit.where in strengths.gates ? edit.where : "probe";
      panels.before.heat(strengths.gates[gate]);
      panels.before.caption(GATES[gate === "auto" && study.auto.opened ? "file" : gate]);
    } else if (shown) mask.over(panels.before, before.labels, ...size);
    if (shown && after) mask.over(panels.after, after.labels, ...size);
    if (shown && control && $("control").checked) mask.over(panels.control, control.labels, ...size);
  }

  return {
    mask,
    overlay,
    /** Draw the sample of the room, and what the edit makes of it. */
    look: () => looked(),
    compare,
    /** Draw what the edit makes of the sample; `since` is when the hand did it. */
    draw(since = gesture) {
      gesture = since;
      return room().study ? edited() : null;
    },
    hover(unit) {
      hovered = unit;
      if (before) overlay();
    },
    /** Lay the layer's grid over the panels; units of another layer are not known yet. */
    regrid(grid) {
      strengths = null;
      hovered = null;
      for (const panel of Object.values(panels)) panel.grid(...grid);
    },
    /** Show which panels there are, and the cells that are brushed. */
    show(study, { where, cells }, cursor) {
      const brushing = where === "brush";
      panels.after.node.hidden = !study;
      panels.control.node.hidden = !$("control").checked;
      $("panels").classList.toggle("brushing", brushing);
      for (const panel of [panels.before, panels.after]) {
        panel.brushing(brushing);
        panel.brushed(brushing ? cells : new Map(), brushing ? cursor : null);
      }
    },
  };
}
