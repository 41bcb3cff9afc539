// The tab "Draw boxes": the images of a folder one by one; boxes are saved into its annotations.json.

import { get, imageAddress, put } from "./api.js";
import { byId, element } from "./dom.js";
import { Stage } from "./stage.js";

export async function setUpBoxes(attempt) {
  const stage = new Stage(byId("boxes-stage"), byId("boxes-objects"), () => tell(true));
  let images = [], at = 0, revision = "", dirty = false, lastName = "";

  function tell(unsaved, text = unsaved ? "not saved yet" : "") {
    dirty = unsaved;
    lastName = stage.objects.findLast((o) => o.name.trim())?.name ?? lastName;
    byId("boxes-state").textContent = text;
    byId("boxes-save").disabled = !unsaved;
  }

  async function open(index) {
    if (dirty) await save();
    at = index;
    const query = `image=${encodeURIComponent(images[at].image)}`;
    const [found, address] = await Promise.all([get(`api/folder/boxes?${query}`), imageAddress(`api/folder/image?${query}`)]);
    await stage.show(address, images[at].image);
    revision = found.revision;
    stage.set(found.objects);
    byId("boxes-title").textContent = `${images[at].image} (${at + 1} of ${images.length})`;
    byId("boxes-previous").disabled = at === 0;
    byId("boxes-next").disabled = at === images.length - 1;
    tell(false);
    listImages();
  }

  async function save() {
    const nameless = stage.objects.find((o) => !o.name.trim());
    if (nameless) {
      stage.focusName(nameless);
      throw new Error("a box has no name yet; say what is in it, or remove it");
    }
    const path = `api/folder/boxes?image=${encodeURIComponent(images[at].image)}`;
    const saved = await put(path, { objects: stage.objects, revision });
    revision = saved.revision;
    images[at].boxes = saved.objects.length;
    tell(false, "saved");
    listImages();
  }

  function listImages() {
    byId("boxes-images").replaceChildren(...images.map((entry, i) => element("li", {},
      element("button", { "aria-current": i === at ? "true" : null, onclick: () => attempt(() => open(i)) },
        element("span", {}, entry.image), element("span", {}, entry.boxes === null ? "–" : String(entry.boxes))))));
    byId("boxes-images").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
    const names = new Set([...byId("names").children].map((o) => o.value).concat(stage.objects.map((o) => o.name)));
    byId("names").replaceChildren(...[...names].filter(Boolean).map((value) => element("option", { value })));
  }

  const go = (step) => { if (images[at + step]) attempt(() => open(at + step)); };
  byId("boxes-previous").addEventListener("click", () => go(-1));
  byId("boxes-next").addEventListener("click", () => go(1));
  byId("boxes-save").addEventListener("click", () => attempt(save));
  byId("boxes-add").addEventListener("click", () => stage.focusName(stage.addInTheMiddle(lastName)));
  document.addEventListener("keydown", (event) => {
    if (byId("boxes").hidden) return;
    if (event.key === "PageDown" || event.key === "PageUp") { event.preventDefault(); go(event.key === "PageDown" ? 1 : -1); }
    if ((event.ctrlKey || event.metaKey) && event.key === "s") { event.preventDefault(); attempt(save); }
  });
  window.addEventListener("beforeunload", (event) => { if (dirty) event.preventDefault(); });

  images = (await get("api/folder")).images;
  await open(Math.max(0, images.findIndex((i) => i.boxes === null)));
}
