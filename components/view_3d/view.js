const element = (id) => document.getElementById(id);
const setStatus = (text) => (element("status").textContent = text);

async function unpack(id) {
  const bytes = Uint8Array.from(atob(element(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function swatchColor(slider) {
  const swatch = slider.closest("label").querySelector(".swatch");
  return getComputedStyle(swatch).backgroundColor.match(/\d+/g).map(Number);
}

async function draw() {
  const library = document.createElement("script");
  library.textContent = new TextDecoder().decode(await unpack("niivue"));
  document.head.append(library);
  const viewer = new niivue.Niivue({
    isRadiologicalConvention: true,
    dragAndDropEnabled: false,
    multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS,
    multiplanarLayout: innerWidth < 700 ? niivue.MULTIPLANAR_TYPE.COLUMN : niivue.MULTIPLANAR_TYPE.GRID,
    crosshairColor: [1, 1, 1, 1],
    crosshairWidth: 1,
    crosshairWidthUnit: "mm",
    crosshairGap: 8,
    fontColor: [1, 1, 1, 1],
    logLevel: "error",
  });
  await viewer.attachToCanvas(document.querySelector("canvas"));
  const names = ["scan", "truth", "prediction"];
  for (const name of names) {
    const slider = element(`${name}-opacity`);
    const [red, green, blue] = slider ? swatchColor(slider) : [255, 255, 255];
    // In 3-D, soft tissue is translucent and everything less dense, such as the lungs, is transparent.
    const map = slider
      ? { R: [red, red], G: [green, green], B: [blue, blue], A: [0, 255], I: [0, 255] }
      : { R: [0, 100, 255], G: [0, 100, 255], B: [0, 100, 255], A: [0, 0, 12], I: [0, 100, 255] };
    viewer.addColormap(name, map);
    const opacity = slider ? slider.valueAsNumber : 1;
    viewer.addVolume(await niivue.NVImage.new(await unpack(name), `${name}.nii`, name, opacity, null, 0, 255));
    slider?.addEventListener("input", () => viewer.setOpacity(names.indexOf(name), slider.valueAsNumber));
  }
  viewer.scene.crosshairPos = JSON.parse(element("viewer").dataset.crosshair);
  viewer.setRenderAzimuthElevation(200, 15);
  element("layout").addEventListener("change", (event) => viewer.setSliceType(Number(event.target.value)));
}

const drawn = (async () => {
  if (!document.createElement("canvas").getContext("webgl2")) {
    element("viewer").hidden = true;
    return setStatus("The 3-D view needs WebGL2, which this browser does not provide. Enable hardware acceleration or open the page in another browser. The overlays in the evaluation report work without it.");
  }
  await draw();
  setStatus("");
})().catch((error) => setStatus(`The 3-D view failed: ${error}`));
