import { type MouseEvent, type ReactNode, useSyncExternalStore } from "react";

/** Which screen the address names. */
export type Route = { screen: "devices" } | { screen: "device"; id: string };

/** The screen is in the query, so that every address is one that the service serves. */
function parse(search: string): Route {
  const id = new URLSearchParams(search).get("device");
  return id ? { screen: "device", id } : { screen: "devices" };
}

function addressOf(route: Route): string {
  return route.screen === "device" ? `/?device=${encodeURIComponent(route.id)}` : "/";
}

const listeners = new Set<() => void>();
const notify = () => {
  for (const listener of listeners) listener();
};

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (listeners.size === 1) window.addEventListener("popstate", notify);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) window.removeEventListener("popstate", notify);
  };
}

export function useRoute(): Route {
  return parse(useSyncExternalStore(subscribe, () => location.search));
}

interface LinkProps {
  to: Route;
  className?: string;
  children: ReactNode;
}

export function Link({ to, className, children }: LinkProps) {
  const onClick = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", addressOf(to));
    notify();
    window.scrollTo(0, 0);
  };
  return (
    <a href={addressOf(to)} className={className} onClick={onClick}>
      {children}
    </a>
  );
}
