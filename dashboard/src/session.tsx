/** Who is signed in, where, and what that key may do. The key lives in the tab's session storage and nowhere else. */
import type { ConvexReactClient } from "convex/react";
import type { FunctionReturnType } from "convex/server";
import { createContext, useContext } from "react";
import type { api } from "../../convex/_generated/api";

export type Credentials = { url: string; key: string };
export type Caller = FunctionReturnType<typeof api.dashboard.caller>;

export type Session = Credentials & {
  client: ConvexReactClient;
  caller: Caller;
  /** @param why - a sentence for the sign-in page */
  signOut: (why?: string) => void;
};

const STORED = "signalbox.session";

export function readCredentials(): Credentials | null {
  try {
    const { url, key } = JSON.parse(sessionStorage.getItem(STORED) ?? "null") as Credentials;
    return typeof url === "string" && typeof key === "string" ? { url, key } : null;
  } catch {
    return null;
  }
}

export function keepCredentials(credentials: Credentials | null): void {
  try {
    if (credentials === null) sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, JSON.stringify(credentials));
  } catch {
    // a browser without storage: signed in until the page is left
  }
}

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("outside of a session");
  return session;
}

/** What a role may do beside looking. */
export const maySubmit = ({ role }: Caller): boolean => role === "submit" || role === "operator";
export const mayOperate = ({ role }: Caller): boolean => role === "operator";
