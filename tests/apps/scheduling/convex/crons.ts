import { cronJobs } from "convex/server";
import { internal } from "./_generated/api";

const crons = cronJobs();
crons.interval("tick", { seconds: 1 }, internal.emails.tick);
crons.monthly("payment reminder", { day: 1, hourUTC: 16, minuteUTC: 0 }, internal.emails.send, { to: "all" });
crons.cron("another way to say it", "0 16 1 * *", internal.emails.send, { to: "all" });
crons.daily("once a day", { hourUTC: 17, minuteUTC: 30 }, internal.emails.tick, {});
crons.weekly("every Monday", { dayOfWeek: "monday", hourUTC: 17, minuteUTC: 30 }, internal.emails.tick);
crons.hourly("every hour", { minuteUTC: 0 }, internal.emails.tick);
export default crons;
