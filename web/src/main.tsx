import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { createService, ServiceContext } from "./service";
import "./theme.css";

const service = createService();
void service.session.start();

const root = document.getElementById("app");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <ServiceContext value={service}>
        <App />
      </ServiceContext>
    </StrictMode>,
  );
}
