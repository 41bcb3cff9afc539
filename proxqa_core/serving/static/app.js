// Which tabs there are, and what goes wrong.

import { get, useKey, WrongKey } from "./api.js";
import { setUpBoxes } from "./boxes.js";
import { byId } from "./dom.js";
import { setUpLive } from "./live.js";
import { setUpPhoto } from "./photo.js";

// Runs work; what it fails with is told until the next work is begun.
async function attempt(work) {
  byId("problem").hidden = true;
  try {
    await work();
  } catch (error) {
    byId("key-form").hidden = !(error instanceof WrongKey);
    byId("problem").textContent = error.message;
    byId("problem").hidden = false;
    if (!(error instanceof Error) || ["TypeError", "ReferenceError"].includes(error.name)) console.error(error);
  }
}

function choose(name) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
  byId("problem").hidden = true;
}

function setUpTabs(names) {
  names.forEach((name, i) => {
    const tab = byId(`tab-${name}`);
    tab.hidden = false;
    tab.addEventListener("click", () => choose(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const other = names[(i + step + names.length) % names.length];
      choose(other);
      byId(`tab-${other}`).focus();
    });
  });
  byId("tabs").hidden = names.length < 2;
  choose(names[0]);
}

async function start() {
  const state = await get("api/state");
  byId("key-form").hidden = true;
  byId("model").textContent = state.model;
  const tabs = [...(state.folder ? ["boxes"] : []), ...(state.model ? ["photo"] : []), ...(state.live ? ["live"] : [])];
  if (state.model) setUpPhoto(attempt);
  if (state.live) setUpLive(attempt);
  setUpTabs(tabs); // shows what has been set up
  if (state.folder) await setUpBoxes(attempt);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  attempt(start);
});
attempt(start);
