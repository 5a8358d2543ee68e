import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

/** The service, while the viewer is served by `npm run dev`. */
const service = process.env.LOOKBACK_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    // The service's content policy allows no `data:` beyond pictures.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1600,
    rolldownOptions: { input: ["index.html", "graphiql.html"] },
  },
  server: {
    proxy: { "/graphql": service, "/auth": service, "/hls": service },
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
