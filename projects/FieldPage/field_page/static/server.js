// Requests to the server of the page. Windows are [y0, x0, y1, x1] in pixels, sizes [height, width].

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: is it still running?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Error(said.error || `the server answered ${response.status}`);
}

export async function loadModel() {
  return (await request("/api/model")).json();
}

// The picture that the page opens at first, as if it were dropped.
export async function loadFirst(name) {
  const blob = await (await request("/api/first")).blob();
  return new File([blob], name, { type: blob.type });
}

export async function upload(file) {
  const options = { method: "POST", headers: { "Content-Type": file.type }, body: file };
  return (await request("/api/pictures", options)).json();
}

export function forget(id) {
  return request(`/api/pictures/${id}`, { method: "DELETE" });
}

function query(window, size) {
  return new URLSearchParams({ window: window.join(), size: size.join() });
}

// {data: Uint16Array of height * width, height, width, seconds}
export async function askLabels(id, window, size, signal) {
  const response = await request(`/api/pictures/${id}/labels?${query(window, size)}`, { signal });
  const [height, width] = response.headers.get("X-Size").split(",").map(Number);
  const data = new Uint16Array(await response.arrayBuffer());
  return { data, height, width, seconds: Number(response.headers.get("X-Seconds")) };
}

// {data: Uint8Array of height * width, height, width}: 0 is certain, 255 that all classes are alike.
export async function askEntropy(id, window, size, signal) {
  const response = await request(`/api/pictures/${id}/entropy?${query(window, size)}`, { signal });
  const [height, width] = response.headers.get("X-Size").split(",").map(Number);
  return { data: new Uint8Array(await response.arrayBuffer()), height, width };
}

export function labelFile(id, window, size) {
  return `/api/pictures/${id}/labels.png?${query(window, size)}`;
}

// [{class, probability}, ...], the most probable first; y and x in [0, 1]
export async function askPoint(id, y, x) {
  return (await request(`/api/pictures/${id}/at?${new URLSearchParams({ y, x })}`)).json();
}
