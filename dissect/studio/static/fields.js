// The fields that tell an edit, and what they offer for it.

import { $ } from "./dom.js";
import { gated } from "./edit.js";
import { bakedAs } from "./saving.js";

/** Let the fields of the room tell `edit`; `study` is null where there are no units to edit. */
export function showFields(edit, study) {
  // Without units there is nothing to edit, and nothing to press.
  const needing = document.querySelectorAll("#explore .units .tools, #explore .list, #explore .controls");
  for (const part of needing) part.hidden = !study;
  $("chosen").textContent = study ? `${edit.units.size} of ${study.top.length}` : "";
  for (const name of ["strength", "threshold"]) {
    $(name).value = edit[name];
    $(`${name}-value`).textContent = edit[name].toFixed(2);
  }
  for (const radio of $("where").querySelectorAll("input")) radio.checked = radio.value === edit.where;
  $("brushes").hidden = edit.where !== "brush";
  $("threshold-field").hidden = !gated(edit);
  $("redraw").hidden = !$("control").checked;
  $("save-checkpoint").title = bakedAs(edit);
}
