/** Signed in or not, and the frame around the pages. */
import { CSPProvider } from "@base-ui/react/csp-provider";
import { ConvexProvider, ConvexReactClient, useConvexConnectionState } from "convex/react";
import { useCallback, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { api } from "../../convex/_generated/api";
import { useRead } from "../hooks";
import { Frame } from "./frame";
import { SayProvider } from "./parts/say";
import { keepCredentials, readCredentials, SessionContext, type Credentials, type Session } from "./session";
import { SignIn } from "./signin";
import { codeOf, messageOf } from "./text";

type Connection = Credentials & { client: ConvexReactClient };

/** @throws {Error} the address is not one */
function connect({ url, key }: Credentials): Connection {
  const client = new ConvexReactClient(url, { unsavedChangesWarning: false, logger: false });
  return { url, key, client };
}

function reconnect(): Connection | null {
  const stored = readCredentials();
  try {
    return stored && connect(stored);
  } catch {
    keepCredentials(null); // whoever wrote that, it is no address
    return null;
  }
}

export function App() {
  const [connection, setConnection] = useState(reconnect);
  const [why, setWhy] = useState<string | null>(null);

  const signIn = useCallback((credentials: Credentials) => {
    try {
      setConnection(connect(credentials));
      setWhy(null);
    } catch (error) {
      setWhy(
        `${messageOf(error)} Give an address as https://happy-otter-123.convex.cloud or http://127.0.0.1:3210.`,
      );
    }
  }, []);
  const signOut = useCallback(
    (reason?: string) => {
      keepCredentials(null);
      setWhy(reason ?? null);
      setConnection(null);
      if (connection !== null) void connection.client.close();
    },
    [connection],
  );

  return (
    <CSPProvider disableStyleElements>
      {connection === null ? (
        <SignIn why={why} onSignIn={signIn} />
      ) : (
        <ConvexProvider client={connection.client}>
          <SayProvider>
            <Gate connection={connection} signOut={signOut}>
              <Frame />
            </Gate>
          </SayProvider>
        </ConvexProvider>
      )}
    </CSPProvider>
  );
}

/** Lets in whom the control plane knows, and only as long as it does. */
function Gate({
  connection,
  signOut,
  children,
}: {
  connection: Connection;
  signOut: Session["signOut"];
  children: ReactNode;
}) {
  const { url, key, client } = connection;
  const { data: caller, error } = useRead(api.dashboard.caller, { key });
  const wasIn = useRef(false);
  useEffect(() => {
    if (error !== null) signOut(refusal(error, wasIn.current));
    if (caller === undefined) return;
    wasIn.current = true;
    keepCredentials({ url, key });
  }, [caller, error, signOut, url, key]);
  const session = useMemo(
    () => (caller === undefined ? null : { url, key, client, caller, signOut }),
    [url, key, client, caller, signOut],
  );
  if (session === null) return <Connecting url={url} onGiveUp={() => signOut()} />;
  return <SessionContext value={session}>{children}</SessionContext>;
}

function refusal(error: Error, wasIn: boolean): string {
  const said = messageOf(error);
  switch (codeOf(error)) {
    case "unauthorized":
      return wasIn ? `${said} Sign in with another key.` : said;
    case "forbidden":
      return `${said} Make one: signalbox keys create --role viewer`;
    default:
      return /Could not find public function/.test(error.message) // behind the line that `said` is
        ? "That deployment answers, but Signalbox is not on it: serve or deploy this version's convex/ folder there."
        : said;
  }
}

const GIVEN_TIME_MS = 2_500;

function Connecting({ url, onGiveUp }: { url: string; onGiveUp: () => void }) {
  const { isWebSocketConnected } = useConvexConnectionState();
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), GIVEN_TIME_MS);
    return () => clearTimeout(timer);
  }, []);
  return (
    <main className="entrance">
      <h1>Signalbox</h1>
      {late && !isWebSocketConnected ? (
        <div role="alert" className="problem">
          <p>Nothing answers at {url}.</p>
          <p>
            Start the host there (signalbox host), or sign in with another address. This page goes on trying.
          </p>
        </div>
      ) : (
        <p role="status">Connecting to {url}…</p>
      )}
      <button className="button" onClick={onGiveUp}>
        Back to sign-in
      </button>
    </main>
  );
}
