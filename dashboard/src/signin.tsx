import { useEffect, useState, type SubmitEvent } from "react";
import type { Credentials } from "./session";

const BUILT_FOR = (import.meta.env["VITE_CONVEX_URL"] as string | undefined) ?? "";

/** Whether the server of these files is the deployment itself: the embedded host says its name. */
async function isServedByHost(): Promise<boolean> {
  try {
    const answer = await fetch(new URL("/instance_name", location.href), { credentials: "omit" });
    return answer.ok && (await answer.text()) === "signalbox";
  } catch {
    return false;
  }
}

/** @param why - what came of the last try, or why somebody was signed out */
export function SignIn({
  why,
  onSignIn,
}: {
  why: string | null;
  onSignIn: (credentials: Credentials) => void;
}) {
  const [asks, setAsks] = useState(BUILT_FOR === "");
  const [url, setUrl] = useState(BUILT_FOR || (location.protocol.startsWith("http") ? location.origin : ""));
  const [key, setKey] = useState("");
  const [missing, setMissing] = useState<string | null>(null);
  useEffect(() => {
    let here = true;
    if (BUILT_FOR === "" && location.protocol.startsWith("http"))
      void isServedByHost().then((served) => {
        if (here && served) setAsks(false);
      });
    return () => void (here = false);
  }, []);

  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const given = { url: url.trim().replace(/\/+$/, ""), key: key.trim() };
    if (given.url === "") setMissing("Give the deployment's address.");
    else if (given.key === "") setMissing("Give a key. Make one: signalbox keys create --role viewer");
    else onSignIn(given);
  };
  const problem = missing ?? why;
  return (
    <main className="entrance">
      <h1>Signalbox</h1>
      <p>What the agents do, live.</p>
      {problem === null ? null : (
        <div role="alert" className="problem" id="problem">
          <p>{problem}</p>
        </div>
      )}
      <form onSubmit={submit} className="form" noValidate onChange={() => setMissing(null)}>
        {asks ? (
          <label>
            Deployment
            <input
              type="url"
              value={url}
              onChange={({ target }) => setUrl(target.value)}
              placeholder="https://happy-otter-123.convex.cloud"
              autoComplete="url"
              spellCheck={false}
            />
          </label>
        ) : (
          <p className="quiet-text">Deployment: {url}</p>
        )}
        <label>
          Key
          <input
            type="password"
            value={key}
            onChange={({ target }) => setKey(target.value)}
            autoComplete="off"
            spellCheck={false}
            autoFocus
            aria-describedby={problem === null ? "key-help" : "problem key-help"}
          />
        </label>
        <p id="key-help" className="quiet-text">
          A viewer key looks, a submit key also submits, cancels and retries, an operator key also drains
          workers and decides what tasks ask. It is kept until this tab is closed.
        </p>
        <button className="button solid">Sign in</button>
      </form>
    </main>
  );
}
