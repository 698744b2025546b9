// Joins channels of a simulator with @mastondzn/dank-twitch-irc, counts what it hears, and prints the counts.
//
//   node client.mjs MODULES_DIR PORT CHANNEL...
//
// Prints `joined` once it is in all channels. A number on stdin says how many lines to wait for; when they are heard it
// prints {"channels": {ID: counts}, "chatters": N, "errors": []} and ends.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";

const [modules, port, ...channels] = process.argv.slice(2);
const { ChatClient } = createRequire(join(modules, "package.json"))("@mastondzn/dank-twitch-irc");

const heard = { channels: {}, errors: [] };
const chatters = new Set();
let lines = 0;
let expected = Infinity;

function count(channelID, what, amount = 1) {
  const counts = (heard.channels[channelID] ??= {});
  counts[what] = (counts[what] ?? 0) + amount;
}

function heardOne() {
  lines += 1;
  if (lines < expected) return;
  heard.chatters = chatters.size;
  console.log(JSON.stringify(heard));
  process.exit(0);
}

const client = new ChatClient({ connection: { type: "tcp", secure: false, host: "127.0.0.1", port: Number(port) } });
client.on("error", (error) => heard.errors.push(String(error)));
client.on("PRIVMSG", (message) => {
  if (message.sourceChannelID !== undefined && message.sourceChannelID !== message.channelID) {
    count(message.channelID, "mirrored");
    return heardOne();
  }
  count(message.channelID, "messages");
  count(message.channelID, "characters", [...message.messageText].length);
  count(message.channelID, "bits", message.bits ?? 0);
  for (const emote of message.emotes) {
    count(message.channelID, "emotes");
    if (/\s/.test(emote.code) || emote.code === "") heard.errors.push(`emote ${emote.code}: ${message.rawSource}`);
  }
  chatters.add(message.senderUserID);
  heardOne();
});
const notices = {
  sub: "subs",
  resub: "subs",
  subgift: "gifts",
  submysterygift: "mystery_gifts",
  raid: "raids",
  announcement: "announcements",
  sharedchatnotice: "mirrored",
};
client.on("USERNOTICE", (message) => {
  count(message.channelID, notices[message.messageTypeID] ?? "other_notices");
  heardOne();
});
client.on("CLEARCHAT", (message) => {
  const kind = message.wasChatCleared() ? "clears" : message.isTimeout() ? "timeouts" : "bans";
  count(message.ircTags["room-id"], kind);
  heardOne();
});
client.on("CLEARMSG", (message) => {
  // Twitch leaves the room's id empty here.
  count(`#${message.channelName}`, "deletions");
  heardOne();
});

client.connect();
await client.joinAll(channels);
console.log("joined");
createInterface({ input: process.stdin }).on("line", (line) => {
  expected = Number(line);
  lines -= 1;
  heardOne();
});
