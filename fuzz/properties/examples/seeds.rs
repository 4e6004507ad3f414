//! Between the seeds, which are lines of text, and libFuzzer's corpus, which is a file each: `seeds unpack TARGET FOLDER` writes the files, `seeds line FILE`
//! the line.

use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["unpack", target, folder] => {
            for (name, bytes) in outrigger_properties::seeds::of(target) {
                std::fs::write(Path::new(folder).join(name), bytes).expect("a writable folder");
            }
        }
        ["line", file] => println!("{}", std::fs::read(file).expect("a readable file").escape_ascii()),
        _ => panic!("seeds unpack TARGET FOLDER, or seeds line FILE"),
    }
}
