// Makes a component of plugin.js. Usage: node build.mjs FILE
import { componentize } from "@bytecodealliance/componentize-js";
import { readFile, writeFile } from "node:fs/promises";

const { component } = await componentize(await readFile("plugin.js", "utf8"), {
  witPath: "wit",
  worldName: "platform",
  // A plugin has no clock, no network, no files and no randomness.
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile(process.argv[2], component);
