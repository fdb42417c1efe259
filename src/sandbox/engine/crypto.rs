//! Native halves of Web Crypto: digests, HMAC, chance.
//!
//! None of it is interruptible by the engine, so each looks at the meter itself: a script that
//! hashes megabytes in a loop stops where any other does.

use std::rc::Rc;

use hmac::{EagerHash, Hmac, KeyInit, Mac};
use rquickjs::{Ctx, Exception, Function, Object, Result, TypedArray};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::runtime::Shared;

/// Bytes that are hashed between two looks at the meter: well under a millisecond.
const STRETCH_BYTES: usize = 256 << 10;

/// Longest answer of `randomBytes`; what `crypto.js` asks for at most.
const RANDOM_BYTES_MAX: usize = 65_536;

/// Does `$work::<D>` with the digest called `$name`.
macro_rules! with_hash {
    ($ctx:expr, $name:expr, $work:ident($($argument:expr),*)) => {
        match $name.as_str() {
            "SHA-1" => $work::<Sha1>($($argument),*),
            "SHA-256" => $work::<Sha256>($($argument),*),
            "SHA-384" => $work::<Sha384>($($argument),*),
            "SHA-512" => $work::<Sha512>($($argument),*),
            _ => Err(Exception::throw_internal($ctx, "no such hash")),
        }
    };
}

/// Adds the functions that `crypto.js` calls.
pub(super) fn doors<'js>(ctx: &Ctx<'js>, native: &Object<'js>, shared: &Rc<Shared>) -> Result<()> {
    let door = shared.clone();
    native.set(
        "digest",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, name: String, data: TypedArray<'js, u8>| {
                let digest = with_hash!(&ctx, name, digest(&ctx, &door, bytes(&data)))?;
                TypedArray::<u8>::new_copy(ctx, digest)
            },
        )?,
    )?;
    let door = shared.clone();
    native.set(
        "hmac",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  name: String,
                  key: TypedArray<'js, u8>,
                  data: TypedArray<'js, u8>| {
                let mac = with_hash!(&ctx, name, mac(&ctx, &door, bytes(&key), bytes(&data)))?;
                TypedArray::<u8>::new_copy(ctx, mac)
            },
        )?,
    )?;
    let door = shared.clone();
    native.set(
        "hmacVerify",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  name: String,
                  key: TypedArray<'js, u8>,
                  signature: TypedArray<'js, u8>,
                  data: TypedArray<'js, u8>| {
                let mac = with_hash!(&ctx, name, mac(&ctx, &door, bytes(&key), bytes(&data)))?;
                // In constant time: how much of a forged signature is right stays unknown.
                Ok::<bool, rquickjs::Error>(bool::from(subtle::ConstantTimeEq::ct_eq(
                    mac.as_slice(),
                    bytes(&signature),
                )))
            },
        )?,
    )?;
    let door = shared.host.clone();
    native.set(
        "randomBytes",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, count: usize| {
            let mut bytes = vec![0; count.min(RANDOM_BYTES_MAX)];
            door.fill_random(&mut bytes);
            TypedArray::<u8>::new_copy(ctx, bytes)
        })?,
    )
}

/// The content of a typed array; nothing of a detached one.
fn bytes<'a>(array: &'a TypedArray<'_, u8>) -> &'a [u8] {
    // SAFETY: no script runs, so nothing moves or writes the buffer, while the caller reads it.
    unsafe { array.as_bytes() }.unwrap_or_default()
}

fn digest<D: Digest>(ctx: &Ctx<'_>, shared: &Shared, data: &[u8]) -> Result<Vec<u8>> {
    let mut digest = D::new();
    in_stretches(ctx, shared, data, |stretch| digest.update(stretch))?;
    Ok(digest.finalize().to_vec())
}

fn mac<D: EagerHash>(ctx: &Ctx<'_>, shared: &Shared, key: &[u8], data: &[u8]) -> Result<Vec<u8>>
where
    Hmac<D>: Mac + KeyInit,
{
    // HMAC takes keys of any length.
    let mut mac = <Hmac<D> as KeyInit>::new_from_slice(key)
        .map_err(|_| Exception::throw_internal(ctx, "the key is not taken"))?;
    in_stretches(ctx, shared, data, |stretch| mac.update(stretch))?;
    Ok(mac.finalize().into_bytes().to_vec())
}

/// Hands `data` on piece by piece, as long as no limit has tripped.
fn in_stretches(
    ctx: &Ctx<'_>,
    shared: &Shared,
    data: &[u8],
    mut take: impl FnMut(&[u8]),
) -> Result<()> {
    // Once for no data at all: short calls in a loop count too.
    for stretch in data.chunks(STRETCH_BYTES).chain(std::iter::once(&[][..])) {
        if shared.meter.check() {
            return Err(Exception::throw_internal(ctx, "stopped"));
        }
        take(stretch);
    }
    Ok(())
}
