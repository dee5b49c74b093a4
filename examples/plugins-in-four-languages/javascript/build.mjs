// Makes a component of plugin.js. Usage: node build.mjs FILE
import { componentize } from "@bytecodealliance/componentize-js";
import { readFile, writeFile } from "node:fs/promises";

const source = await readFile("plugin.js", "utf8");
const roles = [...source.matchAll(/^export const (\w+)/gm)].map((it) => it[1]);

// What is thrown and is no answer ends the call: say what it was, and where.
const told = `
import { log as tell } from "plugpost:plugin/logging@0.1.0";
for (const role of [${roles}]) {
  for (const [name, call] of Object.entries(role)) {
    role[name] = (...all) => {
      try {
        return call.apply(role, all);
      } catch (error) {
        if (error instanceof Error) tell("error", \`\${error}\\n\${error.stack}\`);
        throw error;
      }
    };
  }
}`;

const { component } = await componentize(source + told, {
  witPath: "wit",
  worldName: "platform",
  // A plugin has no clock, no network, no files and no randomness.
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile(process.argv[2], component);
