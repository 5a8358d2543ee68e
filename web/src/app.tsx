import { useSyncExternalStore } from "react";
import { DeviceScreen } from "./device/device";
import { DevicesScreen } from "./devices/devices";
import { useRoute } from "./routes";
import { useService } from "./service";
import { Notice } from "./shell/notice";
import { Shell } from "./shell/shell";
import { SignInScreen } from "./sign-in/sign-in";

export function App() {
  const { session } = useService();
  const state = useSyncExternalStore(session.subscribe, session.state);
  const route = useRoute();
  if (state.kind === "starting") return <Notice title="Signing in …" isBusy />;
  if (state.kind === "signed-out") return <SignInScreen message={state.message} />;
  return (
    <Shell>
      {route.screen === "device" ? (
        <DeviceScreen key={route.id} id={route.id} />
      ) : (
        <DevicesScreen />
      )}
    </Shell>
  );
}
