const part = (id) => document.getElementById(id);
const status = (text) => (part("status").textContent = text);

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(part(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function colorBeside(slider) {
  const swatch = slider.closest("label").querySelector(".swatch");
  return getComputedStyle(swatch).backgroundColor.match(/\d+/g).map(Number);
}

async function draw() {
  const library = document.createElement("script");
  library.textContent = new TextDecoder().decode(await unpacked("niivue"));
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
    const slider = part(`${name}-opacity`);
    const [red, green, blue] = slider ? colorBeside(slider) : [255, 255, 255];
    // In 3-D the body is glass, and what is lighter than soft tissue, such as the lungs, is not there at all.
    const map = slider
      ? { R: [red, red], G: [green, green], B: [blue, blue], A: [0, 255], I: [0, 255] }
      : { R: [0, 100, 255], G: [0, 100, 255], B: [0, 100, 255], A: [0, 0, 12], I: [0, 100, 255] };
    viewer.addColormap(name, map);
    const opacity = slider ? slider.valueAsNumber : 1;
    viewer.addVolume(await niivue.NVImage.new(await unpacked(name), `${name}.nii`, name, opacity, null, 0, 255));
    slider?.addEventListener("input", () => viewer.setOpacity(names.indexOf(name), slider.valueAsNumber));
  }
  viewer.scene.crosshairPos = JSON.parse(part("viewer").dataset.at);
  viewer.setRenderAzimuthElevation(200, 15);
  part("shown").addEventListener("change", (event) => viewer.setSliceType(Number(event.target.value)));
}

const drawn = (async () => {
  if (!document.createElement("canvas").getContext("webgl2")) {
    part("viewer").hidden = true;
    return status("This browser draws no WebGL2, which the 3-D view needs: turn hardware acceleration on, or open the page in another one. The slices in the evaluation's report need nothing.");
  }
  await draw();
  status("");
})().catch((error) => status(`The 3-D view cannot be drawn here: ${error}`));
