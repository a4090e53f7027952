//! Images: the files of a guest's root as an archive, named by its SHA-256 and verified whenever it is used. A name is a small
//! file that holds the digest.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Hashing,
    error::{Error, io},
    initramfs::Archive,
};

/// Longest name.
const LONGEST_NAME: usize = 64;

/// One image by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its digest, small hexadecimal digits.
    pub sha256: String,
    /// How large it is. A guest holds it in memory.
    pub bytes: u64,
}

/// The images below a root.
#[derive(Clone, Debug)]
pub struct Images {
    dir: PathBuf,
}

impl Images {
    /// Those of `root`. Nothing is made yet.
    pub fn of(root: &Path) -> Self {
        Self { dir: root.join("images") }
    }

    /// Makes an image of all that a folder holds. A name that is taken goes over to the new one.
    pub fn build(&self, name: &str, from: &Path) -> Result<Image, Error> {
        check(name)?;
        fs::create_dir_all(&self.dir).map_err(io("make", &self.dir))?;
        let part = self.dir.join(format!(".part-{}", std::process::id()));
        let built = self.archive(from, &part).and_then(|(sha256, bytes)| {
            let image = Image { name: name.to_owned(), sha256, bytes };
            fs::rename(&part, self.file(&image)).map_err(io("write", self.file(&image)))?;
            Ok(image)
        });
        // Renamed by now, or of no use.
        let _ = fs::remove_file(&part);
        let image = built?;
        let before = self.find(name).ok();
        self.name(&image)?;
        if let Some(before) = before.filter(|before| before.sha256 != image.sha256) {
            self.forget(&before)?;
        }
        Ok(image)
    }

    fn archive(&self, from: &Path, part: &Path) -> Result<(String, u64), Error> {
        if !from.is_dir() {
            return Err(Error::Unfit { path: from.to_owned(), why: "not a folder".to_owned() });
        }
        let file = File::create(part).map_err(io("make", part))?;
        let mut archive = Archive::new(Hashing::new(BufWriter::new(file)));
        archive.tree(from)?;
        let (buffer, sha256, bytes) = archive.finish().map_err(io("write", part))?.finish();
        let file = buffer.into_inner().map_err(|error| io("write", part)(error.into_error()))?;
        file.sync_all().map_err(io("write", part))?;
        Ok((sha256, bytes))
    }

    /// By name.
    pub fn find(&self, name: &str) -> Result<Image, Error> {
        check(name)?;
        let file = self.name_file(name);
        let text = fs::read(&file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Missing { what: format!("image {name}"), help: "osvm microvm image build FOLDER --name NAME" }
            }
            _ => io("read", &file)(error),
        })?;
        let image = serde_json::from_slice::<Image>(&text).ok();
        let plain =
            |image: &Image| image.sha256.len() == 64 && image.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        image.filter(plain).ok_or(Error::Unfit { path: file, why: "no record of an image".to_owned() })
    }

    /// All, by their names.
    pub fn list(&self) -> Vec<Image> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()));
        let mut all: Vec<Image> = names.filter_map(|name| self.find(&name).ok()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Removes a name, and the image if no other name has it.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let image = self.find(name)?;
        fs::remove_file(self.name_file(name)).map_err(io("remove", self.name_file(name)))?;
        self.forget(&image)
    }

    /// The archive of an image.
    pub fn file(&self, image: &Image) -> PathBuf {
        self.dir.join(format!("sha256-{}.cpio", image.sha256))
    }

    fn forget(&self, image: &Image) -> Result<(), Error> {
        if self.list().iter().any(|other| other.sha256 == image.sha256) {
            return Ok(());
        }
        fs::remove_file(self.file(image)).map_err(io("remove", self.file(image)))
    }

    fn name(&self, image: &Image) -> Result<(), Error> {
        let (part, file) = (self.dir.join(format!(".name-{}", std::process::id())), self.name_file(&image.name));
        let text = serde_json::to_vec(image).map_err(|error| io("write", &file)(error.into()))?;
        fs::write(&part, text).and_then(|()| fs::rename(&part, &file)).map_err(io("write", &file))
    }

    fn name_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }
}

fn check(name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if begins && name.bytes().all(plain) && name.len() <= LONGEST_NAME {
        Ok(())
    } else {
        Err(Error::Config("an image's name has 1 to 64 small letters, digits, dots, hyphens and underscores"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initramfs::{self, Layer};

    #[test]
    fn images_are_kept_by_their_content_and_go_with_their_last_name() {
        let root = tempfile::tempdir().unwrap();
        let from = tempfile::tempdir().unwrap();
        fs::write(from.path().join("a"), "1").unwrap();
        let images = Images::of(root.path());
        let one = images.build("one", from.path()).unwrap();
        let two = images.build("two", from.path()).unwrap();
        assert_eq!((&one.sha256, one.bytes), (&two.sha256, images.file(&two).metadata().unwrap().len()));
        fs::write(from.path().join("a"), "2").unwrap();
        let other = images.build("two", from.path()).unwrap();
        assert_ne!(one.sha256, other.sha256);
        assert_eq!(images.list(), [one.clone(), other.clone()]);
        images.remove("one").unwrap();
        assert!(!images.file(&one).exists() && images.file(&other).exists());
        images.remove("two").unwrap();
        assert_eq!(fs::read_dir(root.path().join("images")).unwrap().count(), 0);
        assert!(matches!(images.find("two"), Err(Error::Missing { .. })));
        assert!(matches!(images.find("../two"), Err(Error::Config(_))));
    }

    #[test]
    fn an_image_that_was_changed_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let images = Images::of(root.path());
        fs::write(root.path().join("agent"), "x").unwrap();
        fs::create_dir(root.path().join("from")).unwrap();
        fs::write(root.path().join("from/file"), "content").unwrap();
        let image = images.build("one", &root.path().join("from")).unwrap();
        let build = || {
            let layer = Layer { path: images.file(&image), sha256: Some(image.sha256.clone()) };
            initramfs::build(&mut Vec::new(), &root.path().join("agent"), &[], &[layer])
        };
        build().unwrap();
        let mut bytes = fs::read(images.file(&image)).unwrap();
        bytes[200] ^= 1;
        fs::write(images.file(&image), bytes).unwrap();
        assert!(matches!(build(), Err(Error::Digest { .. })));
    }
}
