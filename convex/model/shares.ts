/**
 * How the limits of a model (requests and tokens in a time) are divided among the workers that ask it. Pure.
 *
 * Each worker keeps to its share in every window of that time. What is taken away from one is given to another only when it can
 * count no more at the provider: a worker that has heard of its smaller share may have used more in the time before, and one
 * that has gone may have used all of it. So the sum of what counts never passes the limit, however the windows fall.
 */

/** A worker's share, and what of the limit is set apart for it until `heldUntil`. */
export type Holder = {
  requests: number;
  tokens: number;
  heldRequests: number; // at least `requests`
  heldTokens: number;
  heldUntil: number | null; // null: until it has heard of its smaller share
  rev: number; // grows with each change of the share
  wantedAt: number; // when it last asked for more, or used any
  waiting: boolean; // it asks for more now
  least: number; // tokens of the largest call that waits
};

export type Limits = { requests: number | null; tokens: number | null; perMs: number };

export const NEW_HOLDER: Holder = {
  requests: 0,
  tokens: 0,
  heldRequests: 0,
  heldTokens: 0,
  heldUntil: null,
  rev: 0,
  wantedAt: 0,
  waiting: false,
  least: 0,
};

/** What a worker tells: the share that it obeys, and what it has used in the limit's time. */
export type Told = {
  rev: number;
  usedRequests: number;
  usedTokens: number;
  waiting: number;
  leastTokens: number;
};

/** Take in what a worker tells of its share. */
export function heard(holder: Holder, told: Told, perMs: number, now: number): Holder {
  const wants = told.waiting > 0;
  const uses = told.usedRequests > 0;
  const next = {
    ...holder,
    waiting: wants,
    least: wants ? Math.max(told.leastTokens, 0) : holder.least,
    wantedAt: (wants || uses) && now - holder.wantedAt > perMs / 4 ? now : holder.wantedAt, // seldom written
  };
  if (told.rev !== holder.rev || holder.heldUntil !== null) return next;
  const heldRequests = Math.max(holder.requests, told.usedRequests);
  const heldTokens = Math.max(holder.tokens, told.usedTokens);
  const more = heldRequests > holder.requests || heldTokens > holder.tokens;
  return { ...next, heldRequests, heldTokens, heldUntil: more ? now + perMs : null };
}

/** Take in that a worker has gone: all that it held may still count for as long as the limit's time. */
export function gone(holder: Holder, perMs: number, now: number): Holder {
  if (holder.requests === 0 && holder.tokens === 0 && holder.heldUntil !== null) return holder;
  return {
    ...holder,
    requests: 0,
    tokens: 0,
    rev: holder.rev + 1,
    waiting: false,
    wantedAt: 0,
    heldUntil: now + perMs,
  };
}

/** Let go of what can count no more. */
export function released(holder: Holder, now: number): Holder {
  if (holder.heldUntil === null || holder.heldUntil > now) return holder;
  return { ...holder, heldRequests: holder.requests, heldTokens: holder.tokens, heldUntil: null };
}

/**
 * Divide the limits among those that use them, in equal parts; a part is large enough for the largest call that waits, so when
 * the limits are small not everybody has one. While nobody waits and the sum fits, nothing changes.
 *
 * @param holders - in a fixed order, those that are live; what the others hold is `elsewhere`
 * @param recentMs - who has asked or used within this time has a part
 * @returns the holders in the same order
 */
export function divide(
  holders: readonly Holder[],
  elsewhere: { requests: number; tokens: number },
  limits: Limits,
  now: number,
  recentMs: number,
): Holder[] {
  const { requests, tokens } = limits;
  const sum = (of: (holder: Holder) => number) => holders.reduce((total, holder) => total + of(holder), 0);
  const waits = holders.some(({ waiting }) => waiting);
  const fits = sum((h) => h.requests) <= (requests ?? 0) && sum((h) => h.tokens) <= (tokens ?? 0);
  if (!waits && fits) return [...holders];
  const parts = partsOf(holders, limits, waits ? now - recentMs : -Infinity);
  const shrunk = holders.map((holder, i) => shrink(holder, parts[i]!));
  let freeRequests =
    (requests ?? 0) - elsewhere.requests - shrunk.reduce((total, h) => total + h.heldRequests, 0);
  let freeTokens = (tokens ?? 0) - elsewhere.tokens - shrunk.reduce((total, h) => total + h.heldTokens, 0);
  return shrunk.map((holder, i) => {
    const grown = grow(holder, parts[i]!, Math.max(0, freeRequests), Math.max(0, freeTokens));
    freeRequests -= grown.heldRequests - holder.heldRequests;
    freeTokens -= grown.heldTokens - holder.heldTokens;
    return grown;
  });
}

type Part = { requests: number; tokens: number };

/** The part that each is to have: those that hold something come first, so that parts do not wander. */
function partsOf(holders: readonly Holder[], { requests, tokens }: Limits, recentFrom: number): Part[] {
  const claims = holders
    .map((holder, i) => ({ holder, i }))
    .filter(({ holder }) => holder.waiting || holder.wantedAt > recentFrom)
    .sort((a, b) => Number(b.holder.requests > 0) - Number(a.holder.requests > 0));
  const least = Math.max(1, ...claims.map(({ holder }) => holder.least));
  const large = tokens === null ? Infinity : Math.floor(tokens / Math.min(least, Math.max(tokens, 1)));
  const count = Math.max(1, Math.min(claims.length, requests ?? Infinity, large));
  const parts = holders.map(() => ({ requests: 0, tokens: 0 }));
  claims.slice(0, count).forEach(({ i }, rank) => {
    parts[i] = { requests: partOf(requests, count, rank), tokens: partOf(tokens, count, rank) };
  });
  return parts;
}

/** What is not limited is not divided. */
const partOf = (whole: number | null, count: number, rank: number) =>
  whole === null ? 0 : Math.floor(whole / count) + (rank < whole % count ? 1 : 0);

function shrink(holder: Holder, part: Part): Holder {
  const requests = Math.min(holder.requests, part.requests);
  const tokens = Math.min(holder.tokens, part.tokens);
  if (requests === holder.requests && tokens === holder.tokens) return holder;
  return {
    ...holder,
    requests,
    tokens,
    rev: holder.rev + 1,
    heldRequests: Math.max(holder.heldRequests, holder.requests),
    heldTokens: Math.max(holder.heldTokens, holder.tokens),
    heldUntil: null,
  };
}

function grow(holder: Holder, part: Part, freeRequests: number, freeTokens: number): Holder {
  // Within what is held for it anyway it grows at once.
  const requests = Math.max(holder.requests, Math.min(part.requests, freeRequests + holder.heldRequests));
  const tokens = Math.max(holder.tokens, Math.min(part.tokens, freeTokens + holder.heldTokens));
  if (requests === holder.requests && tokens === holder.tokens) return holder;
  return {
    ...holder,
    requests,
    tokens,
    rev: holder.rev + 1,
    heldRequests: Math.max(holder.heldRequests, requests),
    heldTokens: Math.max(holder.heldTokens, tokens),
  };
}
