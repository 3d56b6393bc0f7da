import { api } from "./_generated/api";
import { cronJobs } from "convex/server";

const crons = cronJobs();
crons.interval("tick", { seconds: 1 }, api.ticking.tick);
crons.daily("tick at night", { hourUTC: 3, minuteUTC: 7 }, api.ticking.tick);

export default crons;
