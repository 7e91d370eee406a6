;;; The scenario's Emacs: what is asked for over its server socket, beside the configuration of editors/emacs/README.md.

(setq inhibit-startup-screen t make-backup-files nil auto-save-default nil create-lockfiles nil
      native-comp-async-report-warnings-errors 'silent revert-without-query '(".*") eglot-confirm-server-initiated-edits nil
      server-socket-dir (getenv "SCENARIO_SOCKETS") server-name "scenario")
(electric-indent-mode -1)

(defmacro scenario-in-file (&rest body)
  "Do BODY where the user is."
  `(with-selected-window (if (minibufferp (window-buffer (selected-window))) (minibuffer-selected-window) (selected-window))
     ,@body))

(defun scenario-answer (value)
  "VALUE as the text that the driver reads."
  (base64-encode-string (encode-coding-string (json-encode value) 'utf-8) t))

(defun scenario-status ()
  "What the server says of itself, or nil while there is none."
  (scenario-in-file
   (when (eglot-current-server)
     (jsonrpc-request (eglot-current-server) :nestling/status nil :timeout 5))))

(defun scenario-place (row column)
  "Take the file from the disk, and go to COLUMN of ROW, or to its end."
  (scenario-in-file
   (revert-buffer t t t)
   (goto-char (point-min))
   (forward-line (1- row))
   (if column (forward-char (1- column)) (end-of-line))
   (recenter)))

(defun scenario-list ()
  "What the completion list at the cursor has."
  (scenario-in-file
   (eglot--signal-textDocument/didChange)
   (let ((found (eglot-completion-at-point)))
     (all-completions (buffer-substring (nth 0 found) (nth 1 found)) (nth 2 found)))))

(defun scenario-menu ()
  "The entries that the minibuffer asks about, or nil."
  (when (active-minibuffer-window)
    (with-current-buffer (window-buffer (active-minibuffer-window))
      (all-completions "" minibuffer-completion-table))))

(defun scenario-answer-menu (entry)
  "Write ENTRY into the minibuffer."
  (with-selected-window (active-minibuffer-window)
    (delete-minibuffer-contents)
    (insert entry)))

(require 'server)
(server-start)
