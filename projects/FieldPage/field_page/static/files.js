// Where pictures come from: a file that is chosen, dropped or pasted.

// "PNG, JPEG or BMP" of media types.
export function named(types) {
  const names = types.map((type) => type.split("/")[1].toUpperCase());
  return `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

const mebibytes = (bytes) => `${Number((bytes / 2 ** 20).toFixed(1))} MiB`;

export const limitsText = ({ types, bytes, pixels }) =>
  `${named(types)}, up to ${mebibytes(bytes)} and ${Number((pixels / 2 ** 20).toFixed(1))} megapixels`;

// Throws what the server would, before anything is sent.
export function checkFile(file, { types, bytes }) {
  if (!types.includes(file.type)) {
    throw new Error(`"${file.name}" is no ${named(types)} picture`);
  }
  if (file.size > bytes) {
    throw new Error(`"${file.name}" has ${mebibytes(file.size)}, at most ${mebibytes(bytes)} are taken`);
  }
}

export function listenForFiles(input, buttons, open) {
  const { body } = document;
  for (const button of buttons) button.onclick = () => input.click();
  input.onchange = () => {
    open(input.files[0]);
    input.value = "";
  };
  body.ondragover = (event) => {
    event.preventDefault();
    body.classList.add("over");
  };
  body.ondragleave = (event) => {
    if (!event.relatedTarget) body.classList.remove("over");
  };
  body.ondrop = (event) => {
    event.preventDefault();
    body.classList.remove("over");
    open(event.dataTransfer.files[0]);
  };
  document.onpaste = (event) => open(event.clipboardData.files[0]);
}
