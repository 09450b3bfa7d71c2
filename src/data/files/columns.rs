//! Parquet, the format of datasets on the Hugging Face hub, turned into the JSON lines that the
//! other readers take.
//!
//! It needs the feature `parquet`. Without it a Parquet file is refused, and the error names the
//! remedies.

use anyhow::Result;

/// The first bytes of a Parquet file.
const MAGIC: &[u8] = b"PAR1";

pub(super) fn is_parquet(contents: &[u8]) -> bool {
    contents.starts_with(MAGIC)
}

/// One JSON object per row.
#[cfg(feature = "parquet")]
pub(super) fn json_lines(contents: Vec<u8>, name: &str) -> Result<Vec<u8>> {
    use anyhow::{Context, ensure};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::unpack::BYTES_MAX;

    let broken = || format!("{name} can't be read as Parquet; is it complete?");
    let reader = SerializedFileReader::new(bytes::Bytes::from(contents)).with_context(broken)?;
    let mut out = Vec::new();
    for row in reader.get_row_iter(None).with_context(broken)? {
        serde_json::to_writer(&mut out, &row.with_context(broken)?.to_json_value()).with_context(broken)?;
        out.push(b'\n');
        ensure!(out.len() as u64 <= BYTES_MAX, "{name} has more than {BYTES_MAX} bytes of rows; split it");
    }
    Ok(out)
}

#[cfg(not(feature = "parquet"))]
pub(super) fn json_lines(_: Vec<u8>, name: &str) -> Result<Vec<u8>> {
    anyhow::bail!(
        "{name} is a Parquet file, which this program was built without: build it with `--features parquet`, or turn \
         the file into JSON lines"
    )
}

#[cfg(test)]
#[cfg(feature = "parquet")]
mod tests {
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn written(rows: usize, compression: Compression) -> Vec<u8> {
        let schema = "message m { REQUIRED BYTE_ARRAY question (UTF8); OPTIONAL INT64 level; }";
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut out = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut out, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let texts: Vec<ByteArray> =
            (0..rows).map(|i| ByteArray::from(format!("q {i} \"ü\"?").as_str())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = (0..rows).map(|i| i16::from(i % 2 == 0)).collect();
        let values: Vec<i64> = (0..rows as i64).step_by(2).collect();
        column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        out
    }

    #[test]
    fn rows_become_json_lines() {
        for compression in
            [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::GZIP(Default::default())]
        {
            let contents = written(3, compression);
            assert!(is_parquet(&contents));
            let lines = String::from_utf8(json_lines(contents, "x").unwrap()).unwrap();
            let rows: Vec<serde_json::Value> =
                lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(rows[1], serde_json::json!({ "question": "q 1 \"ü\"?", "level": null }));
            assert_eq!(rows[2], serde_json::json!({ "question": "q 2 \"ü\"?", "level": 2 }));
        }
        let whole = written(3, Compression::SNAPPY);
        for cut in [4, 10, whole.len() - 1] {
            let error = format!("{:#}", json_lines(whole[..cut].to_vec(), "x").unwrap_err());
            assert!(error.contains("x can't be read as Parquet"), "{error}");
        }
    }
}
