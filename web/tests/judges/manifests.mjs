// What strict readers make of playlists and manifests, and the media that these list.
import assert from "node:assert/strict";
import HLS from "hls-parser";
import { parse as parseMpd } from "mpd-parser";

HLS.setOptions({ strictMode: true });

/** The bytes at an address. */
export async function fetchBytes(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200, url);
  return Buffer.from(await response.arrayBuffer());
}

async function fetchText(url) {
  return (await fetchBytes(url)).toString("utf8");
}

/** One track: how long its segments say they are, and their bytes after those of its header. */
async function track(segments, address) {
  const addresses = [];
  for (const { map, ...segment } of segments) {
    const parts = map ? [address(map), address(segment)] : [address(segment)];
    addresses.push(...parts.filter((part) => !addresses.includes(part)));
  }
  return {
    seconds: lengthOf(segments),
    media: Buffer.concat(await Promise.all(addresses.map(fetchBytes))),
  };
}

const lengthOf = (segments) => segments.reduce((sum, { duration }) => sum + duration, 0);

async function mediaPlaylist(url) {
  const { segments, endlist } = HLS.parse(await fetchText(url));
  assert.equal(endlist, true, url);
  return track(segments, ({ uri }) => new URL(uri, url).href);
}

/** Reads a multivariant playlist and the media playlists that it names. */
export async function readHls(url) {
  const { variants } = HLS.parse(await fetchText(url));
  assert.equal(variants.length, 1, url);
  const [{ uri, codecs, resolution, frameRate, audio }] = variants;
  const playlists = [uri, ...audio.map((rendition) => rendition.uri)];
  return {
    codecs,
    resolution,
    frameRate,
    tracks: await Promise.all(playlists.map((one) => mediaPlaylist(new URL(one, url)))),
  };
}

/** Reads a media playlist whose segments hold every track. */
export async function readHlsTs(url) {
  return { tracks: [await mediaPlaylist(url)] };
}

/** The playlists that a manifest amounts to, pictures first. */
async function dashPlaylists(url) {
  const complaints = [];
  const { playlists, mediaGroups } = parseMpd(await fetchText(url), {
    manifestUri: url,
    eventHandler: ({ type, message }) => complaints.push(`${type}: ${message}`),
  });
  assert.deepEqual(complaints, [], url);
  const sound = Object.values(mediaGroups.AUDIO.audio ?? {}).flatMap((group) => group.playlists);
  return [...playlists, ...sound];
}

/** Reads a finished manifest. */
export async function readDash(url) {
  const all = await dashPlaylists(url);
  const [{ attributes }] = all;
  return {
    codecs: all.map((one) => one.attributes.CODECS).join(),
    resolution: attributes.RESOLUTION,
    frameRate: attributes["FRAME-RATE"],
    tracks: await Promise.all(
      all.map(({ segments }) => track(segments, ({ resolvedUri }) => resolvedUri)),
    ),
  };
}

/** Reads what still grows, without its media: how much each track lists, and in how many parts. */
export async function readGrowing(protocol, url) {
  if (protocol === "DASH") {
    const all = await dashPlaylists(url);
    return all.map(({ segments, endList }) => ({
      seconds: lengthOf(segments),
      ended: endList,
      parts: 0,
    }));
  }
  const { isMasterPlaylist, variants } = HLS.parse(await fetchText(url));
  const names = isMasterPlaylist
    ? variants.flatMap(({ uri, audio }) => [uri, ...audio.map((rendition) => rendition.uri)])
    : [url];
  return Promise.all(
    names.map(async (name) => {
      const { segments, endlist } = HLS.parse(await fetchText(new URL(name, url)));
      const parts = segments.reduce((sum, segment) => sum + segment.parts.length, 0);
      // What is arriving, or hinted at, comes last and has no length.
      const whole = segments.filter(({ uri }) => uri);
      return { seconds: lengthOf(whole), ended: endlist, parts };
    }),
  );
}
