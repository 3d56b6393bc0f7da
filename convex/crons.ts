import { cronJobs } from "convex/server";
import { internal } from "./_generated/api";
import { WATCHDOG_MS } from "./constants";

const crons = cronJobs();

// The only thing that runs when nothing is due: an interval, since cron strings are splayed over a minute.
crons.interval("watchdog", { seconds: WATCHDOG_MS / 1000 }, internal.timers.watchdog, {});

export default crons;
