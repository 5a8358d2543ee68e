//! `Image`: links to pictures that are made when they are fetched.

use super::asked::{Asked, asked};
use super::fault::Fault;
use super::playback::MediaUnavailable;
use super::scalar::{DateTime, Url};
use crate::device::Stream;
use crate::event::Event;
use crate::playback::picture::{MAX_THUMBNAILS, PictureLink, WIDTHS};
use crate::segment::TimeRange;
use async_graphql::{Context, SimpleObject, Union};

const DEFAULT_SNAPSHOT_WIDTH: i32 = 1_280;
const DEFAULT_THUMBNAIL_WIDTH: i32 = 320;
const DEFAULT_THUMBNAILS: i32 = 12;

/// A signed link to a JPEG, which is made when the link is fetched.
#[derive(Debug, SimpleObject)]
pub struct Image {
    /// The instant it shows.
    at: DateTime,
    url: Url,
    /// Null where the size is not known before the picture is made.
    width: Option<u32>,
    height: Option<u32>,
    expires_at: DateTime,
}

impl Image {
    fn of(asked: &Asked, link: PictureLink) -> Self {
        Self {
            at: DateTime(link.at),
            url: Url(format!("{}/{}", asked.base_url, link.path)),
            width: link.size.map(|(width, _)| width),
            height: link.size.map(|(_, height)| height),
            expires_at: DateTime(link.expires_at),
        }
    }
}

/// A picture, or why there is none.
#[derive(Union)]
pub enum ImageResult {
    Image(Image),
    MediaUnavailable(MediaUnavailable),
}

/// The picture of a stream at or just before an instant, or its newest.
pub async fn snapshot(
    ctx: &Context<'_>,
    stream: &Stream,
    at: Option<DateTime>,
    max_width: Option<i32>,
) -> Result<ImageResult, Fault> {
    let asked = asked(ctx)?;
    let max_width = width(max_width, DEFAULT_SNAPSHOT_WIDTH)?;
    asked.service.rates.picture(&asked.caller())?;
    let playback = &asked.service.playback;
    let at = at.map(|DateTime(at)| at);
    match playback.snapshot(asked.principal()?, stream, at, max_width).await {
        Ok(link) => {
            asked.note_look(stream.id).await;
            Ok(ImageResult::Image(Image::of(asked, link)))
        }
        Err(error) => Ok(ImageResult::MediaUnavailable(MediaUnavailable::of(stream.id, error)?)),
    }
}

/// Pictures at even distances over a range of the caller's choice.
pub async fn scrubbing(
    ctx: &Context<'_>,
    stream: &Stream,
    range: TimeRange,
    count: Option<i32>,
    max_width: Option<i32>,
) -> Result<Vec<Image>, Fault> {
    let asked = asked(ctx)?;
    let asked_for = count.unwrap_or(DEFAULT_THUMBNAILS);
    let count = usize::try_from(asked_for)
        .ok()
        .filter(|count| (1..=MAX_THUMBNAILS).contains(count))
        .ok_or_else(|| Fault::bounds("count", asked_for, 1, MAX_THUMBNAILS))?;
    let max_width = width(max_width, DEFAULT_THUMBNAIL_WIDTH)?;
    asked.service.rates.picture(&asked.caller())?;
    let playback = &asked.service.playback;
    let links = playback.thumbnails(asked.principal()?, stream, range, count, max_width).await?;
    if !links.is_empty() {
        asked.note_look(stream.id).await;
    }
    Ok(links.into_iter().map(|link| Image::of(asked, link)).collect())
}

/// The first picture of a clip. It is no look of its own: a list of clips has one of each.
pub async fn of_clip(
    ctx: &Context<'_>,
    stream: &Stream,
    clip: TimeRange,
    max_width: Option<i32>,
) -> Result<Option<Image>, Fault> {
    let asked = asked(ctx)?;
    let max_width = width(max_width, DEFAULT_THUMBNAIL_WIDTH)?;
    asked.service.rates.picture(&asked.caller())?;
    let playback = &asked.service.playback;
    let link = playback.thumbnail(asked.principal()?, stream, clip, max_width).await?;
    Ok(link.map(|link| Image::of(asked, link)))
}

/// The picture that came with an event, or one cut from the footage of when it took place.
pub async fn of_event(
    ctx: &Context<'_>,
    event: &Event,
    max_width: Option<i32>,
) -> Result<Option<Image>, Fault> {
    let asked = asked(ctx)?;
    let max_width = width(max_width, DEFAULT_THUMBNAIL_WIDTH)?;
    let playback = &asked.service.playback;
    let caller = asked.principal()?;
    let streams = asked.streams_of(event.id.device).await?;
    let uploaded =
        streams.first().and_then(|main| playback.uploaded_picture(caller, main, event, max_width));
    if let Some(link) = uploaded {
        return Ok(Some(Image::of(asked, link)));
    }
    for stream in &streams {
        let range = event.span(asked.now());
        if let Some(link) = playback.first_picture(caller, stream, range, max_width).await? {
            return Ok(Some(Image::of(asked, link)));
        }
    }
    Ok(None)
}

fn width(max_width: Option<i32>, default: i32) -> Result<u32, Fault> {
    let max_width = max_width.unwrap_or(default);
    u32::try_from(max_width)
        .ok()
        .filter(|width| WIDTHS.contains(width))
        .ok_or_else(|| Fault::bounds("maxWidth", max_width, WIDTHS.start(), WIDTHS.end()))
}
