import { defineConfig } from "vite";

// Two pages, one for each daemon. No inline scripts: the daemons' Content-Security-Policy forbids them.
export default defineConfig({
  base: "/",
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rollupOptions: { input: ["mesos.html", "marathon.html"] },
  },
});
