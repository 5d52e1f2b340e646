// Builds what the film viewer takes from npm into app/static/vendor: one file each, with its licence and the
// record that tests/test_vendored.py holds it against. Run it as README.md beside it says.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";

const vendor = new URL("../../app/static/vendor/", import.meta.url);
const locked = JSON.parse(readFileSync("package-lock.json", "utf8")).packages;
const renderer = "./node_modules/@cornerstonejs/core/dist/esm/RenderingEngine/helpers/cpuFallback/rendering";

/** The record of a package as npm wrote it down when it was locked. */
function recorded(name) {
  const { version, integrity, license } = locked[`node_modules/${name}`];
  return { name, version, integrity, license };
}

/** sha512 of a file, spelt as npm spells integrity. */
function integrity(file) {
  return "sha512-" + createHash("sha512").update(readFileSync(file)).digest("base64");
}

async function take(folder, code, packages, licences) {
  const target = new URL(`${folder}/`, vendor);
  mkdirSync(target, { recursive: true });
  const banner = packages.map((name) => `${name} ${locked[`node_modules/${name}`].version}`).join(", ");
  await build({
    stdin: { contents: code, resolveDir: "." },
    bundle: true,
    format: "esm",
    target: "es2020",
    charset: "utf8",
    banner: { js: `/* ${banner}. Built by packaging/viewer; terms in LICENSE. */` },
    outfile: new URL(`${folder}.js`, target).pathname,
  });
  writeFileSync(new URL("LICENSE", target), licences.map((file) => readFileSync(file, "utf8").trim()).join("\n\n---\n\n") + "\n");
  const files = Object.fromEntries([`${folder}.js`, "LICENSE"].map((name) => [name, integrity(new URL(name, target))]));
  const [first, ...others] = packages.map(recorded);
  const record = { ...first, bundled: others, built_with: recorded("esbuild"), files };
  writeFileSync(new URL("vendored.json", target), JSON.stringify(record, null, 2) + "\n");
}

await take(
  "cornerstone-core",
  `export { renderGrayscaleImage } from "${renderer}/renderGrayscaleImage.js";
   export { default as calculateTransform } from "${renderer}/calculateTransform.js";
   export { default as canvasToPixel } from "${renderer}/canvasToPixel.js";
   export { default as pixelToCanvas } from "${renderer}/pixelToCanvas.js";
   export { default as fitToWindow } from "${renderer}/fitToWindow.js";`,
  ["@cornerstonejs/core"],
  ["LICENSE-cornerstone"],
);
await take("d3-contour", `export { contours } from "d3-contour";`, ["d3-contour", "d3-array"], [
  "node_modules/d3-contour/LICENSE",
  "node_modules/d3-array/LICENSE",
]);
