; The installer of the Windows program, for one user: no administrator, nothing outside the user's own folders.
; Made by packaging/build.py, which defines VERSION, FOLDER, KILOBYTES and TARGET.
;
;   setup.exe [/S] [/D=FOLDER]          /S asks nothing and shows nothing; /D comes last, unquoted
;   uninstall.exe [/S] [/DATA]          /DATA removes the films and answers as well
;
; Exit code 0: done. 2: refused, and nothing was changed.

; 64 bit where this NSIS has it (Debian's): a Wine without its 32-bit half runs it
!if /FileExists "${NSISDIR}/Stubs/lzma_solid-amd64-unicode"
  Target amd64-unicode
!endif
Unicode true
ManifestDPIAware true
ManifestSupportedOS all
RequestExecutionLevel user
SetCompressor /SOLID lzma
SetCompressorDictSize 64
SetDateSave off ; files carry the time of their installation, and two builds are alike

!include MUI2.nsh
!include FileFunc.nsh
!include LogicLib.nsh
!include WinVer.nsh
!include x64.nsh

!define NAME "Clinic chest X-ray"
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\ClinicCXR"
!define DATA "$LOCALAPPDATA\ClinicCXR" ; as app/options.py finds it

Name "${NAME}"
OutFile "${TARGET}"
InstallDir "$LOCALAPPDATA\Programs\Clinic CXR"
InstallDirRegKey HKCU "${UNINSTALL}" InstallLocation
BrandingText "${NAME} ${VERSION}"
ShowInstDetails nevershow
ShowUninstDetails nevershow

VIProductVersion "${VERSION}.0"
VIAddVersionKey ProductName "Clinic CXR"
VIAddVersionKey ProductVersion "${VERSION}"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey FileDescription "${NAME}, installer"
VIAddVersionKey LegalCopyright ""

!define MUI_ICON "${__FILEDIR__}\clinic.ico"
!define MUI_UNICON "${__FILEDIR__}\clinic.ico"
!define MUI_FINISHPAGE_RUN "$INSTDIR\Clinic.exe"
!define MUI_FINISHPAGE_TITLE_3LINES
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!define MUI_COMPONENTSPAGE_NODESC
!define MUI_PAGE_CUSTOMFUNCTION_LEAVE un.AskAgain
!insertmacro MUI_UNPAGE_COMPONENTS
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE English

; Say why not, and end with nothing changed.
!macro Refuse SENTENCE
  MessageBox MB_OK|MB_ICONEXCLAMATION "${SENTENCE}" /SD IDOK
  SetErrorLevel 2
  Quit
!macroend

; A program file that runs cannot be opened for writing.
!macro RefuseWhileRunning FILE
  ${If} ${FileExists} "$INSTDIR\${FILE}"
    ClearErrors
    FileOpen $0 "$INSTDIR\${FILE}" a
    ${If} ${Errors}
      !insertmacro Refuse "The program is running. Quit it first (the button Quit in its window), then try again."
    ${EndIf}
    FileClose $0
  ${EndIf}
!macroend

Function .onInit
  ${IfNot} ${RunningX64}
  ${OrIfNot} ${AtLeastWin10}
    !insertmacro Refuse "This program needs Windows 10 or newer, 64 bit."
  ${EndIf}
  ; The folder is replaced whole, so it must be ours, new or empty
  ${If} ${FileExists} "$INSTDIR\*.*"
  ${AndIfNot} ${FileExists} "$INSTDIR\uninstall.exe"
    ${DirState} "$INSTDIR" $0
    ${If} $0 == 1
      !insertmacro Refuse "There are other files in $INSTDIR. Choose an empty folder."
    ${EndIf}
  ${EndIf}
  !insertmacro RefuseWhileRunning Clinic.exe
  !insertmacro RefuseWhileRunning Clinic-console.exe
FunctionEnd

Section
  ; The new program is whole before the old one is moved away: a full disk leaves the old one working
  RMDir /r "$INSTDIR.new" ; of an installation that was broken off
  ClearErrors
  SetOutPath "$INSTDIR.new"
  File /r "${FOLDER}\*"
  WriteUninstaller "$INSTDIR.new\uninstall.exe"
  SetOutPath "$TEMP" ; a folder that is the working directory cannot be renamed
  ${If} ${Errors}
    RMDir /r "$INSTDIR.new"
    !insertmacro Refuse "The program could not be written to the disk. Make room on the disk, then try again. Nothing was changed."
  ${EndIf}
  RMDir /r "$INSTDIR.old"
  RMDir "$INSTDIR" ; where it is empty
  ClearErrors
  ${If} ${FileExists} "$INSTDIR\*.*"
    Rename "$INSTDIR" "$INSTDIR.old"
  ${EndIf}
  ${IfNot} ${Errors}
    Rename "$INSTDIR.new" "$INSTDIR"
    ${If} ${Errors}
      Rename "$INSTDIR.old" "$INSTDIR"
      SetErrors
    ${EndIf}
  ${EndIf}
  ${If} ${Errors}
    RMDir /r "$INSTDIR.new"
    !insertmacro Refuse "The older program is in use. Close its windows and folders, then try again. Nothing was changed."
  ${EndIf}
  RMDir /r "$INSTDIR.old"

  SetOutPath "$INSTDIR" ; where the shortcuts start the program
  CreateShortcut "$DESKTOP\${NAME}.lnk" "$INSTDIR\Clinic.exe"
  CreateShortcut "$SMPROGRAMS\${NAME}.lnk" "$INSTDIR\Clinic.exe"
  WriteRegStr HKCU "${UNINSTALL}" DisplayName "${NAME}"
  WriteRegStr HKCU "${UNINSTALL}" DisplayVersion "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL}" DisplayIcon "$INSTDIR\Clinic.exe"
  WriteRegStr HKCU "${UNINSTALL}" InstallLocation "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL}" UninstallString '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL}" QuietUninstallString '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL}" EstimatedSize ${KILOBYTES}
  WriteRegDWORD HKCU "${UNINSTALL}" NoModify 1
  WriteRegDWORD HKCU "${UNINSTALL}" NoRepair 1
SectionEnd

Function .onInstFailed
  RMDir /r "$INSTDIR.new"
FunctionEnd

Section "un.The program"
  SectionIn RO
  SetOutPath "$TEMP"
  RMDir /r "$INSTDIR"
  Delete "$DESKTOP\${NAME}.lnk"
  Delete "$SMPROGRAMS\${NAME}.lnk"
  DeleteRegKey HKCU "${UNINSTALL}"
SectionEnd

Section /o "un.All films and answers" films
  RMDir /r "${DATA}"
SectionEnd

Function un.onInit
  ; Only what this installer wrote is ever removed
  ${IfNot} ${FileExists} "$INSTDIR\Clinic.exe"
    !insertmacro Refuse "The program is not in $INSTDIR."
  ${EndIf}
  !insertmacro RefuseWhileRunning Clinic.exe
  !insertmacro RefuseWhileRunning Clinic-console.exe
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/DATA" $1
  ${IfNot} ${Errors}
    !insertmacro SelectSection ${films}
  ${EndIf}
FunctionEnd

Function un.AskAgain
  ${If} ${SectionIsSelected} ${films}
    MessageBox MB_YESNO|MB_ICONEXCLAMATION|MB_DEFBUTTON2 "All films and answers of this computer will be deleted and cannot be brought back. Delete them?" /SD IDYES IDYES sure
    Abort
    sure:
  ${EndIf}
FunctionEnd
