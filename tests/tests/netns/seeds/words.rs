//! What is put in the place of the documents' words.

/// Images of the documents, with the ports that they expose. There are no images here: what an image would run is
/// given as a command, and what it exposes as an option.
const IMAGES: [(&str, &[&str]); 6] = [
    ("busybox", &[]),
    ("busybox:latest", &[]),
    ("redis", &["--expose", "6379"]),
    ("ubuntu", &[]),
    ("base", &[]),
    ("ray-x/httpd-busybox:v0.2", &["--expose", "80"]),
];

/// Commands that keep a container up until somebody types at them: an empty sandbox stays up, too.
const SHELLS: [&str; 2] = ["sh", "/bin/bash"];

/// A line of a document as the words behind `bascule`.
pub fn bascule(line: &str) -> Vec<String> {
    let mut words = split(line);
    while words.first().is_some_and(|word| ["$", "#", "sudo", "docker"].contains(&word.as_str())) {
        words.remove(0);
    }
    let is_new = matches!(words.first().map(String::as_str), Some("run" | "create"));
    let image = |word: &String| IMAGES.iter().find(|(name, _)| name == word);
    // The last one: a container may be called like its image.
    if !is_new {
        return words;
    }
    let Some(at) = words.iter().rposition(|word| image(word).is_some()) else { return words };
    let exposed = image(&words[at]).map_or(&[][..], |(_, exposed)| exposed);
    let command = words.split_off(at).split_off(1);
    words.extend(exposed.iter().map(ToString::to_string));
    if command.is_empty() || SHELLS.contains(&command[0].as_str()) {
        // Without a terminal to leave it by.
        if words[0] == "run" && !words.iter().any(|word| is_detached(word)) {
            words.push("-d".to_owned());
        }
    } else {
        words.push("--".to_owned());
        words.extend(command);
    }
    words
}

fn is_detached(word: &str) -> bool {
    word == "--detach" || (word.starts_with('-') && !word.starts_with("--") && word.contains('d'))
}

/// Words, with quotes taken off.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![];
    let (mut word, mut quoted, mut begun) = (String::new(), None, false);
    for letter in line.chars() {
        match (quoted, letter) {
            (Some(quote), letter) if letter == quote => quoted = None,
            (None, '"' | '\'') => (quoted, begun) = (Some(letter), true),
            (None, ' ' | '\n' | '\\') => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (_, letter) => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[test]
fn words_of_a_document_are_ours() {
    assert_eq!(
        bascule("$ sudo docker run -itd --net=n -o \"a b\"='c' --name redis redis"),
        ["run", "-itd", "--net=n", "-o", "a b=c", "--name", "redis", "--expose", "6379"]
    );
    assert_eq!(bascule("docker run -it --rm base /bin/bash"), ["run", "-it", "--rm", "-d"]);
    assert_eq!(bascule("docker run ubuntu ip addr"), ["run", "--", "ip", "addr"]);
    assert_eq!(bascule("docker rm -f redis"), ["rm", "-f", "redis"]);
}
