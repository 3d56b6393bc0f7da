/** What Convex's runtime has of `process`. */
declare const process: { env: Record<string, string | undefined> };
