import { useEffect, useState } from "react";

/** What `/auth/issuers` answers. */
interface Issuers {
  issuers: { name: string; displayName: string }[];
}

/** The ways to sign in elsewhere, where the service has any. */
export function IssuerLinks() {
  const [issuers, setIssuers] = useState<Issuers["issuers"]>([]);

  useEffect(() => {
    const asking = new AbortController();
    fetch("/auth/issuers", { signal: asking.signal })
      .then((answer) => answer.json() as Promise<Issuers>)
      .then((answer) => setIssuers(answer.issuers))
      // A name and a password still do.
      .catch(() => undefined);
    return () => asking.abort();
  }, []);

  if (issuers.length === 0) return null;
  const page = encodeURIComponent(location.pathname + location.search);
  return (
    <ul className="issuers">
      {issuers.map(({ name, displayName }) => (
        <li key={name}>
          <a href={`/auth/oidc/${name}/start?page=${page}`}>Sign in with {displayName}</a>
        </li>
      ))}
    </ul>
  );
}
