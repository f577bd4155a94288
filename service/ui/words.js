// What the page says, in its two languages.
"use strict";

const WORDS = {
  en: {
    model: "Model", language: "Language", api: "HTTP API", input: "Your image", answer: "What it is",
    hint: "Draw here, or drop an image", clear: "Clear", choose: "Choose images", folder: "Choose a folder",
    camera: "Take a photo", paste: "You can also paste an image, or drop a whole folder.",
    seen: "What the model saw", isItRight: "Is it right?", right: "Yes, right", wrong: "No, it was",
    send: "Send", thanks: "Thank you, noted.", already: "This one was already answered differently.",
    gallery: "Results", accuracy: "How right it has been",
    padLabel: "Drawing area. Draw with mouse or finger; without one, choose an image with the buttons below.",
    accept: "Confident.", uncertain: "Not sure: it may be something else.",
    several: "Several figures in one picture; give them one at a time.",
    alien: "This looks like nothing the model was taught.",
    confidence: "Confidence", latency: "Round trip", polarity: "Polarity", version: "Version", of: "of",
    failed: "failed", working: "Working…", unreachable: "The service does not answer.",
    window: "Window", labelled: "Labelled", correct: "Correct", rate: "Accuracy", interval: "95 % interval",
    hour: "last hour", day: "last day", all: "all time", noLabels: "No labels yet. Tell the page whether it was right.",
    tested: "On the test set", source: "Labels from", user: "users", audit: "audits",
  },
  pt: {
    model: "Modelo", language: "Idioma", api: "API HTTP", input: "A sua imagem", answer: "O que é",
    hint: "Desenhe aqui, ou solte uma imagem", clear: "Limpar", choose: "Escolher imagens", folder: "Escolher uma pasta",
    camera: "Tirar uma foto", paste: "Também pode colar uma imagem, ou soltar uma pasta inteira.",
    seen: "O que o modelo viu", isItRight: "Está certo?", right: "Sim, certo", wrong: "Não, era",
    send: "Enviar", thanks: "Obrigado, anotado.", already: "Esta já foi respondida de outra forma.",
    gallery: "Resultados", accuracy: "Quanto tem acertado",
    padLabel: "Área de desenho. Desenhe com o mouse ou o dedo; sem eles, escolha uma imagem nos botões abaixo.",
    accept: "Com confiança.", uncertain: "Em dúvida: pode ser outra coisa.",
    several: "Várias figuras em uma imagem; envie uma de cada vez.",
    alien: "Não se parece com nada que o modelo aprendeu.",
    confidence: "Confiança", latency: "Ida e volta", polarity: "Polaridade", version: "Versão", of: "de",
    failed: "falharam", working: "Calculando…", unreachable: "O serviço não responde.",
    window: "Período", labelled: "Rotuladas", correct: "Certas", rate: "Acurácia", interval: "Intervalo de 95 %",
    hour: "última hora", day: "último dia", all: "desde sempre", noLabels: "Ainda sem rótulos. Diga à página se acertou.",
    tested: "No conjunto de teste", source: "Rótulos de", user: "usuários", audit: "auditorias",
  },
};
