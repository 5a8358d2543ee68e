import type { Connectivity, DeviceState } from "../graphql/operations";

const CONNECTIVITY: Record<Connectivity, string> = {
  ONLINE: "Online",
  OFFLINE: "Offline",
  UNKNOWN: "Never seen",
};

/** Whether the service hears from a device. */
export function Connection({ connectivity }: { connectivity: Connectivity }) {
  return (
    <span className={`connection ${connectivity.toLowerCase()}`}>
      <i aria-hidden="true" /> {CONNECTIVITY[connectivity] ?? CONNECTIVITY.UNKNOWN}
    </span>
  );
}

const STATES: Record<DeviceState, string> = {
  PROVISIONED: "Waiting for its first picture",
  ACTIVE: "Active",
  SUSPENDED: "Suspended",
  RETIRED: "Retired",
};

/** Where a device stands in its life. */
export function StateBadge({ state }: { state: DeviceState }) {
  return <span className={`state ${state.toLowerCase()}`}>{STATES[state] ?? state}</span>;
}
