import { existsSync, readdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { defineConfig } from "vite";

const here = import.meta.dirname;
const root = resolve(here, "../../..");

/** Folders directly below `folder`, hidden ones and node_modules left out. */
function folders(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !/^(\.|_|node_modules$)/.test(entry.name))
    .map((entry) => join(folder, entry.name));
}

/**
 * Every script directly inside a feature's `client/` folder is an entry of its own, named after
 * the feature and the file: `dicomweb/browse/client/study.ts` becomes `browse/study`.
 */
function featureEntries(): Record<string, string> {
  const entries: Record<string, string> = {};
  for (const feature of folders(root).flatMap(folders)) {
    const client = join(feature, "client");
    if (!existsSync(client)) continue;
    for (const file of readdirSync(client)) {
      if (!file.endsWith(".ts") || file.endsWith(".d.ts")) continue;
      entries[`${basename(feature)}/${file.slice(0, -3)}`] = join(client, file);
    }
  }
  return entries;
}

export default defineConfig({
  root,
  base: "/static/dist/",
  publicDir: false,
  logLevel: "warn",
  resolve: { alias: { "@app": resolve(here, "src") } },
  build: {
    outDir: resolve(here, "../static/dist"),
    emptyOutDir: true,
    manifest: "manifest.json",
    target: ["chrome111", "edge111", "firefox115", "safari16.4"],
    sourcemap: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      checks: { pluginTimings: false },
      input: { app: resolve(here, "src/app.ts"), charts: resolve(here, "src/charts.ts"), ...featureEntries() },
    },
  },
});
