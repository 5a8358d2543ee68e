import { type FormEvent, useState } from "react";
import { useService } from "../service";
import { IssuerLinks } from "./issuers";
import "./sign-in.css";

/** Name and password; `message` says why the viewer is here. */
export function SignInScreen({ message }: { message: string | null }) {
  const { session } = useService();
  const [refusal, setRefusal] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [hasAccount, setHasAccount] = useState(false);

  const onSubmit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    const field = (name: string) => String(fields.get(name) ?? "");
    setBusy(true);
    setRefusal(await session.signIn(field("name"), field("password"), field("account").trim()));
    setBusy(false);
  };

  const note = refusal ?? message;
  return (
    <main className="sign-in">
      <form onSubmit={(event) => void onSubmit(event)} aria-labelledby="sign-in-title">
        <img src="/favicon.svg" alt="" width="48" height="48" />
        <h1 id="sign-in-title">Sign in to Lookback</h1>
        {note && (
          <p className="banner" role="alert">
            {note}
          </p>
        )}
        <label>
          Name
          <input name="name" autoComplete="username" required autoCapitalize="none" />
        </label>
        <label>
          Password
          <input name="password" type="password" autoComplete="current-password" required />
        </label>
        {hasAccount ? (
          <label>
            Account
            <input name="account" autoComplete="organization" autoCapitalize="none" />
          </label>
        ) : (
          <button type="button" className="quiet" onClick={() => setHasAccount(true)}>
            Use another account
          </button>
        )}
        <button type="submit" className="primary" disabled={isBusy}>
          {isBusy ? "Signing in …" : "Sign in"}
        </button>
        <IssuerLinks />
      </form>
    </main>
  );
}
