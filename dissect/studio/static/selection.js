// Units taken as a set: by a rule, from the top of the list, or none.

import { $ } from "./dom.js";

/**
 * The buttons. `study()` is the layer's units or null, `first(count)` the top of the list as it
 * stands, `change(alter, event)` alters the edit by one step that can be undone.
 */
export function makeSelection({ study, first, change }) {
  /** `taken(study)` is what becomes of the edit: its units, and more where the rule says more. */
  function button(id, taken) {
    $(id).addEventListener("click", (event) => {
      if (!study()) return;
      const { units, ...rest } = taken(study());
      change((edit) => Object.assign(edit, rest, { units: new Set(units) }), event);
    });
  }

  button("positive", ({ positive }) => ({ units: positive }));
  button("auto", ({ auto: { units, strength, threshold } }) => ({ units, strength, threshold, where: "auto" }));
  button("take-top", ({ top }) => {
    const wanted = Math.min(Math.max(1, Math.floor(Number($("top").value)) || 1), top.length);
    $("top").value = wanted;
    return { units: first(wanted) };
  });
  button("none", () => ({ units: [] }));

  return {
    /** Offer what there is for the units of a study. */
    offer({ top, auto }) {
      $("top").max = top.length;
      $("auto").disabled = !auto.units;
      $("where-auto").hidden = !auto.units;
      $("auto").textContent = auto.opened ? "File" : "Auto";
      $("where-auto-text").textContent = auto.opened ? "where the file says" : "where auto’s probe does";
      $("auto").title = auto.opened ? `The edit of the file: ${auto.units.length} units` : auto.none ?? `What rule auto chose: ${auto.units.length} units, each with a `
        + `strength of its own, at the cells where a probe is above ${auto.threshold}`;
    },
  };
}
