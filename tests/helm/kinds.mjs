// Checks custom resources against their published schemas. In: a JSON list of objects. Out: a JSON list of faults.
// Usage: node kinds.mjs FOLDER, where FOLDER has @kubernetes-models in its node_modules.
import { readdirSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const FOLDERS = { "keda.sh": "keda", "monitoring.coreos.com": "prometheus-operator" };
const base = `${process.argv[2]}/node_modules/@kubernetes-models`;
const faults = [];
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const [group, version] = object.apiVersion.split("/");
  const schemas = `${base}/${FOLDERS[group]}/_schemas`;
  const ending = `${version[0].toUpperCase()}${version.slice(1)}${object.kind}.js`;
  const file = readdirSync(schemas).filter((name) => name.endsWith(ending)).sort((a, b) => a.length - b.length)[0];
  const { validate } = await import(pathToFileURL(`${schemas}/${file}`).href);
  const name = `${object.kind} ${object.metadata.name}`;
  if (!validate(object)) faults.push(...validate.errors.map((e) => `${name}: ${e.instancePath} ${JSON.stringify(e.params)}`));
}
process.stdout.write(JSON.stringify(faults));
