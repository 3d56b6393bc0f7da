/** Groups of documents, by which the tests that share a host keep theirs apart; see functions/documents.ts. */

import type { Value } from "convex/values";
import { api } from "./clients";
import type { Clients } from "./clients";

let groups = 0;

/** A group that no other test of the file uses. */
export const newGroup = () => `group ${(groups += 1)}`;

/** Put a document for each value into a group. @returns the group */
export async function filled(clients: Clients, values: Value[], group = newGroup()): Promise<string> {
  await clients.http().mutation(api.documents.putAll, { group, values });
  return group;
}
