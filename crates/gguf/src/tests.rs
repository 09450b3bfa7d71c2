//! The container: what is written is read again, and whatever else is read is refused with a name.

use std::io::Cursor;

use autodidact_testing::assert_refused;
use proptest::prelude::*;

use super::*;

fn metadata() -> Vec<(String, Value)> {
    let values: [(&str, Value); 10] = [
        ("general.architecture", "llama".into()),
        ("a.count", 7u32.into()),
        ("a.signed", Value::Signed(-7)),
        ("a.number", 1e-5.into()),
        ("a.flag", true.into()),
        ("a.texts", Value::Texts(vec!["x".into(), String::new(), "▁Ġ".into()])),
        ("a.integers", Value::Integers(vec![1, -2, 3])),
        ("a.numbers", Value::Floats(vec![0.1, -2.0])),
        ("a.flags", Value::Bools(vec![true, false])),
        ("a.none", Value::Texts(Vec::new())),
    ];
    values.map(|(key, value)| (key.to_owned(), value)).into()
}

fn specs() -> Vec<TensorSpec> {
    let spec =
        |name: &str, dtype, shape: &[usize]| TensorSpec { name: name.into(), dtype, shape: shape.to_vec() };
    vec![
        spec("one", Dtype::F32, &[3]),
        spec("two", Dtype::F16, &[2, 5]),
        spec("three", Dtype::Q8_0, &[2, 3, 64]),
    ]
}

fn bytes() -> Vec<u8> {
    let (mut out, specs) = (Vec::new(), specs());
    let data = |n: usize| Ok((0..specs[n].bytes()?).map(|i| (i * 7 + n) as u8).collect());
    write(&mut out, &metadata(), &specs, data).unwrap();
    out
}

fn read(bytes: &[u8]) -> Result<Header> {
    Header::read(Cursor::new(bytes), bytes.len() as u64)
}

#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    std::fs::write(&path, bytes()).unwrap();
    let file = File::open(&path).unwrap();
    for (key, value) in metadata() {
        assert_eq!(file.metadata().get(&key), Some(&value), "{key}");
    }
    for (n, spec) in specs().into_iter().enumerate() {
        let info = file.tensor(&spec.name).unwrap();
        assert_eq!((info.dtype, &info.shape), (spec.dtype, &spec.shape));
        assert_eq!(info.offset % 32, 0);
        let wanted: Vec<u8> = (0..spec.bytes().unwrap()).map(|i| (i * 7 + n) as u8).collect();
        assert_eq!(file.read(&spec.name).unwrap(), wanted);
    }
    assert_eq!(file.read_rows("three", 4..5).unwrap(), file.read("three").unwrap()[4 * 68..5 * 68]);
    assert_refused(file.read_rows("three", 5..7), "has 6 rows; 5..7 were asked for");
    assert!(file.read("four").unwrap_err().to_string().contains("`four` is missing"));
    let meta = file.metadata();
    assert_eq!(meta.number("a.number").unwrap(), Some(1e-5));
    assert_eq!(meta.id("a.count").unwrap(), Some(7));
    assert_eq!(meta.flags("a.integers").unwrap(), Some(vec![true; 3]));
    for error in [meta.text("a.count").unwrap_err(), meta.unsigned("a.signed").unwrap_err()] {
        assert!(error.to_string().starts_with("a."), "{error}");
    }
}

/// Little-endian integers one after another.
fn header(version: u32, tensors: u64, values: u64, rest: &[u8]) -> Vec<u8> {
    [&b"GGUF"[..], &version.to_le_bytes(), &tensors.to_le_bytes(), &values.to_le_bytes(), rest].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn damage_is_named() {
    let key = |kind: u32, rest: &[u8]| [&text("k")[..], &kind.to_le_bytes(), rest].concat();
    let huge = u64::MAX.to_le_bytes();
    let list = |kind: u32, count: [u8; 8]| key(9, &[&kind.to_le_bytes()[..], &count, &[0; 40]].concat());
    let tensor = |dimensions: &[u64], kind: u32, offset: u64| {
        let mut bytes = [text("t"), (dimensions.len() as u32).to_le_bytes().to_vec()].concat();
        dimensions.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        [&bytes[..], &kind.to_le_bytes(), &offset.to_le_bytes(), &[0; 64]].concat()
    };
    let alignment = [&text("general.alignment")[..], &4u32.to_le_bytes(), &0u32.to_le_bytes()].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"PK\x03\x04 and so on".to_vec(), "it is no GGUF file"),
        (header(1, 0, 0, &[]), "GGUF version 1"),
        (header(u32::from_be(3), 0, 0, &[]), "is not supported"),
        (header(3, u64::MAX, u64::MAX, &[]), "claims 18446744073709551615 tensors"),
        (header(3, 0, 1, &key(8, &[&huge[..], &[0; 9]].concat())), "metadata \"k\" is damaged"),
        (header(3, 0, 1, &list(0, huge)), "a list claims 18446744073709551615 elements"),
        (header(3, 0, 1, &list(8, huge)), "a list claims"),
        (header(3, 0, 1, &list(77, [0; 8])), "a list is of type 77"),
        (header(3, 0, 1, &key(77, &[0; 9])), "a value is of type 77"),
        (header(3, 0, 1, &key(7, &[9; 9])), "a flag is 9"),
        (header(3, 0, 1, &alignment), "general.alignment is 0"),
        (header(3, 1, 0, &tensor(&[1 << 60, 1 << 60], 0, 0)), "tensor `t` claims"),
        (header(3, 1, 0, &tensor(&[0, 4], 0, 0)), "is empty"),
        (header(3, 1, 0, &tensor(&[400], 0, 0)), "reaches beyond"),
        (header(3, 1, 0, &tensor(&[4], 0, u64::MAX)), "tensor `t`"),
        (header(3, 1, 0, &tensor(&[1, 1, 1, 1, 1], 0, 0)), "5 dimensions"),
    ];
    for (bytes, word) in cases {
        let error = format!("{:#}", read(&bytes).unwrap_err());
        assert!(error.contains(word), "{word}: {error}");
    }
    let nested =
        (0..100).fold(Vec::new(), |inner, _| [&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &inner].concat());
    let error = format!("{:#}", read(&header(3, 0, 1, &key(9, &nested))).unwrap_err());
    assert!(error.contains("more than 8 deep"), "{error}");
}

#[test]
fn types_that_cannot_be_read_are_named_when_they_are_asked_for() {
    let mut file = bytes();
    // The type of the first tensor follows its name, its number of dimensions and one dimension.
    let at =
        file.windows(11).position(|w| w == [&3u64.to_le_bytes()[..], b"one"].concat()).unwrap() + 11 + 4 + 8;
    file[at..at + 4].copy_from_slice(&23u32.to_le_bytes());
    let header = read(&file).unwrap();
    let error = format!("{:#}", header.tensors["one"].row_bytes("one").unwrap_err());
    assert!(error.contains("`one`") && error.contains("IQ4_XS") && error.contains("Q8_0"), "{error}");
    assert_eq!(Dtype::from_id(999).name(), "of type 999");
}

#[test]
fn every_cut_is_noticed() {
    let whole = bytes();
    for length in 0..whole.len() {
        // Padding after the last tensor is not needed.
        let is_padding = length >= whole.len() - 24;
        assert!(read(&whole[..length]).is_err() || is_padding, "{length} of {} bytes", whole.len());
    }
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), with in any::<[u8; 8]>(), count in 1usize..8) {
        let mut file = bytes();
        let at = at.index(file.len());
        for (place, byte) in file[at..].iter_mut().zip(with).take(count) {
            *place = byte;
        }
        if let Ok(header) = read(&file) {
            for (name, info) in &header.tensors {
                if let Ok(row) = info.row_bytes(name) {
                    prop_assert!(info.offset + (row * info.rows()) as u64 <= file.len() as u64);
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(rest in prop::collection::vec(any::<u8>(), 0..400), tensors in 0u64..4, values in 0u64..4) {
        let _ = read(&header(3, tensors, values, &rest));
    }
}
