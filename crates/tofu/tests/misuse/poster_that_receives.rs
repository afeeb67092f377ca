//! A poster posts.

use tofu::Poster;

fn receive(mut poster: Poster) {
    let _ = poster.recv();
}

fn main() {}
