import { createContext, useContext } from "react";
import { Session } from "./auth/session";
import { Client } from "./graphql/client";
import { ServiceClock } from "./time/service-clock";

/** What every screen is handed: who is signed in, and how to ask the service. */
export interface Service {
  session: Session;
  client: Client;
  clock: ServiceClock;
}

export function createService(): Service {
  const session = new Session();
  const clock = new ServiceClock();
  return { session, clock, client: new Client(session, clock) };
}

export const ServiceContext = createContext<Service | null>(null);

export function useService(): Service {
  const service = useContext(ServiceContext);
  if (!service) throw new Error("no service above this component");
  return service;
}
