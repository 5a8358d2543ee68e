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
    seconds: segments.reduce((sum, { duration }) => sum + duration, 0),
    media: Buffer.concat(await Promise.all(addresses.map(fetchBytes))),
  };
}

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

/** Reads a manifest of one period. */
export async function readDash(url) {
  const complaints = [];
  const { playlists, mediaGroups } = parseMpd(await fetchText(url), {
    manifestUri: url,
    eventHandler: ({ type, message }) => complaints.push(`${type}: ${message}`),
  });
  assert.deepEqual(complaints, [], url);
  const sound = Object.values(mediaGroups.AUDIO.audio ?? {}).flatMap((group) => group.playlists);
  const all = [...playlists, ...sound];
  const [{ attributes }] = playlists;
  return {
    codecs: all.map((one) => one.attributes.CODECS).join(),
    resolution: attributes.RESOLUTION,
    frameRate: attributes["FRAME-RATE"],
    tracks: await Promise.all(
      all.map(({ segments }) => track(segments, ({ resolvedUri }) => resolvedUri)),
    ),
  };
}
