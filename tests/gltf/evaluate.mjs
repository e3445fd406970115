// node evaluate.mjs FILE STATE: the vertices of a rigged file in a state, in world space, as three.js moves them.
//
// STATE is a JSON file: `influences`, the morph weights, and `rotations`, a quaternion (x, y, z, w) for each of
// some nodes by index. Prints JSON: the names of the morph targets in order, and x, y, z of all vertices.
import { readFile } from "node:fs/promises";
import { Vector3 } from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";

const [file, state] = await Promise.all(process.argv.slice(2).map((path) => readFile(path)));
const { influences, rotations } = JSON.parse(state);
const bytes = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
const { scene, parser } = await new GLTFLoader().parseAsync(bytes, "");

for (const [node, quaternion] of Object.entries(rotations)) {
  (await parser.getDependency("node", Number(node))).quaternion.fromArray(quaternion);
}
let mesh;
scene.traverse((object) => (mesh = object.isSkinnedMesh ? object : mesh));
influences.forEach((weight, k) => (mesh.morphTargetInfluences[k] = weight));
scene.updateMatrixWorld(true);
mesh.skeleton.update();

const vertices = [];
const point = new Vector3();
for (let i = 0; i < mesh.geometry.attributes.position.count; i++) {
  vertices.push(...mesh.getVertexPosition(i, point).applyMatrix4(mesh.matrixWorld));
}
const dictionary = mesh.morphTargetDictionary ?? {};
const names = Object.keys(dictionary).sort((a, b) => dictionary[a] - dictionary[b]);
console.log(JSON.stringify({ names, vertices }));
