//! The head of a file: its type, and the descriptions of its tracks.

use mp4_atom::{
    Audio, BufMut, Dinf, Dref, Encode, FourCC, Free, Ftyp, Hdlr, Mdhd, Mehd, Mvhd, Result, Smhd, Stco, Stsc, Stsz,
    Stts, Tkhd, Trex, Url, Visual, Vmhd, Zeroed,
};

use super::track::{Media, TrackConfig};
use super::{Kind, TIMESCALE};

/// Size of a duration box without its header, for the room that is kept for it.
const DURATION_SIZE: usize = 12;

/// Number of the only source of data, the file itself.
const DATA_REFERENCE: u16 = 1;

/// Flags of samples (ISO/IEC 14496-12, section 8.8.3.1): decodable without others, or not.
pub(super) const SYNC_SAMPLE: u32 = 0x0200_0000;
pub(super) const OTHER_SAMPLE: u32 = 0x0101_0000;

/// Returns the head of a file with these tracks. It has the same length with a duration, in milliseconds, and without one.
/// Fails when a box is too large, which [`TrackConfig`] excludes.
pub(super) fn encode(tracks: &[(Kind, TrackConfig)], duration: Option<u64>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    // The first brand with the offsets and times that fragments have here.
    let brands = [b"iso6", b"mp41"].map(FourCC::new);
    Ftyp { major_brand: brands[0], minor_version: 0, compatible_brands: brands.to_vec() }.encode(&mut out)?;
    out.encode_atom(b"moov", |out| {
        let next_track_id = Kind::ALL.len() as u32 + 1;
        Mvhd { timescale: TIMESCALE, rate: 1.into(), volume: 1.into(), next_track_id, ..Mvhd::default() }
            .encode(out)?;
        for (kind, config) in tracks {
            out.encode_atom(b"trak", |out| encode_track(out, *kind, config))?;
        }
        out.encode_atom(b"mvex", |out| {
            match duration {
                Some(fragment_duration) => Mehd { fragment_duration }.encode(out)?,
                None => Free { zeroed: Zeroed::new(DURATION_SIZE) }.encode(out)?,
            }
            for (kind, _) in tracks {
                let flags = if *kind == Kind::Video { OTHER_SAMPLE } else { SYNC_SAMPLE };
                let (track_id, default_sample_description_index) = (kind.id(), 1);
                let trex = Trex { track_id, default_sample_description_index, ..Trex::default() };
                Trex { default_sample_flags: flags, ..trex }.encode(out)?;
            }
            Ok(())
        })
    })?;
    Ok(out)
}

/// Encodes what is in a `trak`.
fn encode_track(out: &mut Vec<u8>, kind: Kind, config: &TrackConfig) -> Result<()> {
    let mut header = Tkhd { track_id: kind.id(), enabled: true, in_movie: true, ..Tkhd::default() };
    let (handler, name) = match config.media {
        Media::Video { width, height } => {
            (header.width, header.height) = (width.into(), height.into());
            (b"vide", "VideoHandler")
        }
        Media::Audio { .. } => {
            header.volume = 1.into();
            (b"soun", "SoundHandler")
        }
    };
    header.encode(out)?;
    out.encode_atom(b"mdia", |out| {
        Mdhd { timescale: TIMESCALE, language: "und".to_owned(), ..Mdhd::default() }.encode(out)?;
        Hdlr { handler: handler.into(), name: name.to_owned() }.encode(out)?;
        out.encode_atom(b"minf", |out| {
            match kind {
                Kind::Video => Vmhd::default().encode(out)?,
                Kind::Audio => Smhd::default().encode(out)?,
            }
            Dinf { dref: Dref { entries: vec![Url::default().into()] } }.encode(out)?;
            out.encode_atom(b"stbl", |out| {
                out.encode_atom(b"stsd", |out| {
                    // Version and flags, number of entries.
                    0_u32.encode(out)?;
                    1_u32.encode(out)?;
                    out.encode_atom(config.entry, |out| encode_sample_entry(out, config))
                })?;
                Stts::default().encode(out)?;
                Stsc::default().encode(out)?;
                Stsz::default().encode(out)?;
                Stco::default().encode(out)
            })
        })
    })
}

fn encode_sample_entry(out: &mut Vec<u8>, config: &TrackConfig) -> Result<()> {
    const BITS: u16 = 16;

    match config.media {
        Media::Video { width, height } => {
            Visual { data_reference_index: DATA_REFERENCE, width, height, ..Visual::default() }.encode(out)?;
        }
        Media::Audio { channels, sample_rate } => {
            // A rate above 65535 Hz is in the configuration of the decoder only.
            let sample_rate = u16::try_from(sample_rate).unwrap_or_default().into();
            let data_reference_index = DATA_REFERENCE;
            Audio { data_reference_index, channel_count: channels, sample_size: BITS, sample_rate }.encode(out)?;
        }
    }
    out.append_slice(&config.boxes);
    Ok(())
}
